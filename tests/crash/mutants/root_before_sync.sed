# engine/overlay/checkpoint.cc
# The superblock names a checkpoint that no sync has made durable.
/All that the superblock will name must be durable before it is/{
n
d
}
