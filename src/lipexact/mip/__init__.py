"""Mixed-integer programs from graphs, through Pyomo."""
