# engine/overlay/replay.cc
# COWL_STORY=6993401209586037728 shows it; one run in four does so by chance.
# A tail of an earlier incarnation counts.
s/? record.incarnation == superblock.incarnation$/? record.incarnation <= superblock.incarnation/
