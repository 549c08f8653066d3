"""XORBoost: data owners train boosted trees on additive secret shares.

K. Deforth, M. Desgroseilliers, N. Gama, M. Georgieva, D. Jetchev, M. Vuille, "XORBoost: tree boosting in the multiparty
computation setting", PoPETs 2022(4). Read candidates, histogram, splitting/search, routing, grow, train in this order.
"""
