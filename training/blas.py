"""How many threads NumPy, SciPy and scikit-learn multiply matrices with."""

from threadpoolctl import threadpool_limits

# OpenBLAS' threads wait for each other in a loop. Where another program wants their core, each product of small
# matrices takes a turn of the scheduler: a mixture of the codes of 1,350 digits took 22 s of CPU time instead of 0.4.
one_thread = threadpool_limits.wrap(limits=1, user_api="blas")
