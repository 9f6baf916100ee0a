# engine/overlay/replay.cc
# A tail of an earlier incarnation counts.
s/record.order > superblock.resume_order ? record.incarnation == superblock.incarnation/record.order > superblock.resume_order ? record.incarnation <= superblock.incarnation/
