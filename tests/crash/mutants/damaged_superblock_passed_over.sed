# engine/format/superblock.cc
# Where one superblock is damaged the other, older one is taken.
s/^    if (!superblock.ok()) return superblock.status();$/    if (!superblock.ok()) continue;/
