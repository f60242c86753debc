"""Mixed-integer programs from graphs, through Pyomo, and the engines that solve them.

From the bottom:

``solvers``
    HiGHS, SCIP, Gurobi and CBC behind one function, ``solvers.base.solve``.
``constants``
    Tolerances, limits and times.
``blocks``, ``cuts``, ``model``
    One block per primitive of the graph; constraints that exclude patterns; both put together: a
    problem as one Pyomo model, the ``Composition``.
``claims``
    What is believed of a solver.
``relaxation``, ``cut_loop``
    The linear relaxation, and the outer approximation loop.

Nothing else imports Pyomo, and nothing here is imported before it is used.
"""
