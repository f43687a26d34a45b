"""Equivariant building blocks; nothing in here knows about the heads.

Shapes lead with any batch dimensions ([..., 3] for vectors), lengths are in Å. Modules take
float32 or float64 input and have neither Python loops over atoms nor data-dependent branches,
so that they trace and compile.
"""
