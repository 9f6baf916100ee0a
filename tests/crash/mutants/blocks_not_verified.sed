# engine/layer/data_file.cc
# Blocks are served without a look at their checksums.
/^absl::Status VerifyBlocks(/,/^}$/s/^    if (Xxh3(.*$/    if (data.empty())/
