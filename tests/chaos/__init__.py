"""Kill -9 without end, under load: `python -m tests.chaos` (`make chaos`).

plan      which process lives how long and where it dies: from the seed alone
fleet     two gateways, two workers, PostgreSQL and the partners' stand-ins, and their deaths
clients   members, charities' friends and a shop, who write down every answer they got
checker   what must hold when all is over
report    the table
"""
