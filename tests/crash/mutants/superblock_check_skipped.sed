# engine/format/superblock.cc
# A damaged superblock is believed.
s/^  if (disk.check != Xxh3(.*$/  if (disk.version > 1000) {/
