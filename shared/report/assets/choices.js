"use strict";
// Shows the panels that agree with every choice of their group. Without scripts all are shown.
(() => {
  for (const box of document.querySelectorAll(".choices")) {
    const panels = document.getElementById(box.dataset.for).children;
    const update = () => {
      const wanted = {};
      for (const input of box.querySelectorAll("select, input:checked"))
        wanted[input.dataset.choice] = input.value;
      for (const panel of panels)
        panel.hidden = Object.entries(wanted).some(
          ([name, value]) => name in panel.dataset && panel.dataset[name] !== value,
        );
    };
    box.addEventListener("change", update);
    update();
  }
})();
