# engine/layer/layer.cc
# A merged map forgets its zeros before the chain goes without what they hide.
s/Compacted(merged, \/\*keep_zeros=\*\/true)/Compacted(merged, false)/
