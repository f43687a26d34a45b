def test_x(report):
    print(report)
