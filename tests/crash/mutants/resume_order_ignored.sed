# engine/overlay/replay.cc
# A tail of an earlier incarnation counts.
s/? record.incarnation == superblock.incarnation$/? record.incarnation <= superblock.incarnation/
