"""Two softmax classifiers, as chains of the local Jacobians.

The chain rule contracts them over the letters of every intermediate array:

    ∂L/∂w[t,u] = Σ_pqrs ∂L/∂a[p,q] ∂a[p,q]/∂z[r,s] ∂z[r,s]/∂w[t,u]     'pq,pqrs,rstu->tu'

and likewise for x and b. The second classifier passes the weighted sum through a sigmoid first, as
the regressor of the notebook sigmoid_softmax_regressor_numpy does.
"""

from gradcheck import load

classifier = load("weighted_sum") >> load("softmax") >> load("cross_entropy")

sigmoid_classifier = (
    load("weighted_sum") >> load("sigmoid") >> load("softmax") >> load("cross_entropy")
)
