// Extent arrays and range maps against an array with one entry a block.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>
#include <vector>

#include "layer/extent_array.h"
#include "layer/layer.h"
#include "layer/range_map.h"
#include "support/status_matchers.h"

namespace cowl {
namespace {

constexpr uint64_t kBlocks = 200;

struct Cell {
  Segment::Kind kind = Segment::Kind::kAbsent;
  uint32_t source = 0;
  uint64_t physical = 0;
  bool operator==(const Cell&) const = default;
};
using Cells = std::vector<Cell>;

void Fill(Cells& cells, const Segment& segment) {
  for (uint64_t i = 0; i < segment.length; ++i) {
    const bool is_data = segment.kind == Segment::Kind::kData;
    cells[segment.start + i] = {segment.kind, segment.source, is_data ? segment.physical + i : 0};
  }
}

// What a map says of [begin, end), and that it says it in order, without gaps, whole.
template <typename Map>
Cells Visited(const Map& map, uint64_t begin, uint64_t end) {
  Cells cells(kBlocks);
  uint64_t at = begin;
  map.VisitRange(begin, end, [&](const Segment& segment) {
    EXPECT_EQ(segment.start, at);
    EXPECT_GT(segment.length, 0u);
    at = segment.end();
    if (at <= end) Fill(cells, segment);
  });
  EXPECT_EQ(at, end);
  return cells;
}

Cells Part(const Cells& cells, uint64_t begin, uint64_t end) {
  Cells part(kBlocks);
  std::copy(cells.begin() + static_cast<ptrdiff_t>(begin),
            cells.begin() + static_cast<ptrdiff_t>(end),
            part.begin() + static_cast<ptrdiff_t>(begin));
  return part;
}

Segment RandomSegment(std::mt19937_64& random, uint32_t sources) {
  Segment segment;
  segment.start = random() % kBlocks;
  segment.length = 1 + random() % std::min<uint64_t>(kBlocks - segment.start, 1 + random() % 30);
  segment.kind = random() % 3 == 0 ? Segment::Kind::kZero : Segment::Kind::kData;
  segment.source = static_cast<uint32_t>(random() % sources);
  // Often in line with what other segments say, so that neighbours join.
  if (segment.kind == Segment::Kind::kData)
    segment.physical = 10'000 + segment.start + random() % 2 * 1000;
  return segment;
}

RangeMap RandomMap(std::mt19937_64& random, uint32_t sources, Cells* cells) {
  RangeMap map;
  for (uint64_t i = random() % 40; i > 0; --i) {
    const Segment segment = RandomSegment(random, sources);
    map.Set(segment);
    Fill(*cells, segment);
  }
  return map;
}

ExtentArray ToArray(const RangeMap& map) {
  ExtentArrayBuilder builder;
  map.ForEach([&](const Segment& segment) { builder.Add(segment); });
  return builder.Build();
}

// No two neighbours that could be one.
void ExpectJoined(const ExtentArray& array) {
  const std::span<const Extent> extents = array.extents();
  for (size_t i = 1; i < extents.size(); ++i) {
    EXPECT_LE(extents[i - 1].end(), extents[i].start());
    EXPECT_FALSE(extents[i - 1].JoinsWith(extents[i]));
  }
}

TEST(RangeMap, AgreesWithTheCells) {
  std::mt19937_64 random(1);
  for (int round = 0; round < 300; ++round) {
    Cells cells(kBlocks);
    RangeMap map;
    for (int i = 0; i < 60; ++i) {
      const Segment segment = RandomSegment(random, 2);
      map.Set(segment);
      Fill(cells, segment);
      const uint64_t begin = random() % kBlocks;
      const uint64_t end = begin + 1 + random() % (kBlocks - begin);
      ASSERT_EQ(Visited(map, begin, end), Part(cells, begin, end));
    }
    const Segment* last = nullptr;
    std::vector<Segment> all;
    map.ForEach([&](const Segment& segment) { all.push_back(segment); });
    for (const Segment& segment : all) {
      if (last != nullptr) {
        EXPECT_FALSE(last->JoinsWith(segment));
      }
      last = &segment;
    }
  }
}

TEST(ExtentArray, AgreesWithTheCells) {
  std::mt19937_64 random(2);
  for (int round = 0; round < 500; ++round) {
    Cells cells(kBlocks);
    const RangeMap map = RandomMap(random, 3, &cells);
    const ExtentArray array = ToArray(map);
    ExpectJoined(array);
    uint64_t data = 0;
    for (const Cell& cell : cells) data += cell.kind == Segment::Kind::kData;
    EXPECT_EQ(array.DataBlocks(), data);
    for (int i = 0; i < 20; ++i) {
      const uint64_t begin = random() % kBlocks;
      const uint64_t end = begin + 1 + random() % (kBlocks - begin);
      ASSERT_EQ(Visited(array, begin, end), Part(cells, begin, end));
    }
    const std::vector<Extent> on_disk(array.extents().begin(), array.extents().end());
    EXPECT_OK(ExtentArray::FromDisk(on_disk, 3, "f"));
  }
}

TEST(ExtentArray, MergesAsTheCellsDo) {
  std::mt19937_64 random(3);
  const uint32_t upper_sources[] = {7, 3};
  const uint32_t lower_sources[] = {3, 9, 1};
  for (int round = 0; round < 1000; ++round) {
    Cells upper_cells(kBlocks);
    Cells lower_cells(kBlocks);
    const ExtentArray upper = ToArray(RandomMap(random, 2, &upper_cells));
    const ExtentArray lower = ToArray(RandomMap(random, 3, &lower_cells));
    Cells expected(kBlocks);
    for (uint64_t i = 0; i < kBlocks; ++i) {
      const bool from_upper = upper_cells[i].kind != Segment::Kind::kAbsent;
      expected[i] = from_upper ? upper_cells[i] : lower_cells[i];
      if (expected[i].kind == Segment::Kind::kAbsent) continue;
      expected[i].source =
          from_upper ? upper_sources[expected[i].source] : lower_sources[expected[i].source];
    }
    const ExtentArray merged =
        MergeExtents(upper.extents(), upper_sources, lower.extents(), lower_sources);
    ExpectJoined(merged);
    ASSERT_EQ(Visited(merged, 0, kBlocks), expected);
  }
}

TEST(ExtentArray, MergesRangesAsTheCellsDo) {
  std::mt19937_64 random(4);
  for (int round = 0; round < 500; ++round) {
    Cells upper_cells(kBlocks);
    Cells expected(kBlocks);
    const ExtentArray lower = ToArray(RandomMap(random, 1, &expected));
    const RangeMap upper = RandomMap(random, 1, &upper_cells);
    for (uint64_t i = 0; i < kBlocks; ++i) {
      if (upper_cells[i].kind != Segment::Kind::kAbsent) expected[i] = upper_cells[i];
    }
    ASSERT_EQ(Visited(MergeRanges(upper, lower), 0, kBlocks), expected);
  }
}

// Maps of every size around the marks' distance, and batches that are whole, short and empty.
TEST(ExtentArray, FindsEachAsASearchOneByOneDoes) {
  std::mt19937_64 random(7);
  for (size_t count = 0; count < 70; ++count) {
    ExtentArrayBuilder builder;
    std::vector<uint64_t> ends;
    uint64_t at = 0;
    for (size_t i = 0; i < count; ++i) {
      const uint64_t start = at + random() % 3;
      const uint64_t length = 1 + random() % 3;
      // Places that do not continue each other.
      builder.Add({start, length, Segment::Kind::kData, 0, 100 + i * 10});
      at = start + length;
      ends.push_back(at);
    }
    const ExtentArray map = builder.Build();
    ASSERT_EQ(map.size(), count);
    std::vector<uint64_t> blocks(random() % 40);
    for (uint64_t& block : blocks) block = random() % (at + 2);
    std::vector<size_t> found(blocks.size());
    map.FindEach(blocks, found);
    for (size_t i = 0; i < blocks.size(); ++i) {
      const auto expected = std::upper_bound(ends.begin(), ends.end(), blocks[i]) - ends.begin();
      ASSERT_EQ(found[i], static_cast<size_t>(expected))
          << "block " << blocks[i] << " of " << count;
    }
  }
}

TEST(ExtentArray, CutsWhatIsTooLongForOneExtent) {
  ExtentArrayBuilder builder;
  builder.Add({5, 3 * Extent::kLengthMax, Segment::Kind::kZero});
  const ExtentArray array = builder.Build();
  EXPECT_EQ(array.size(), 3u);
  uint64_t covered = 0;
  for (const Extent& extent : array.extents()) covered += extent.length();
  EXPECT_EQ(covered, 3 * Extent::kLengthMax);
}

TEST(ExtentArray, RefusesDamagedMaps) {
  const auto from = [](std::vector<Extent> extents) {
    return ExtentArray::FromDisk(std::move(extents), 2, "layers/f");
  };
  EXPECT_OK(from({Extent::Data(0, 5, 0, 2), Extent::Zero(5, 5, 1)}));
  EXPECT_THAT(from({Extent::Data(0, 5, 0, 2), Extent::Zero(4, 5, 1)}),
              IsCode(absl::StatusCode::kDataLoss))
      << "overlap";
  EXPECT_THAT(from({Extent::Data(9, 5, 0, 2), Extent::Zero(4, 5, 1)}), SaysThat("layers/f"))
      << "order";
  EXPECT_FALSE(from({Extent::Data(0, 5, 2, 2)}).ok()) << "a source that is not there";
  EXPECT_FALSE(from({Extent()}).ok());
}

std::shared_ptr<const LayerMap> MakeLayer(const Uuid& id, std::vector<Uuid> others,
                                          ExtentArray extents) {
  LayerMap layer;
  layer.superblock.id = id;
  layer.map.files = {id};
  layer.map.files.insert(layer.map.files.end(), others.begin(), others.end());
  layer.map.extents = std::move(extents);
  return std::make_shared<const LayerMap>(std::move(layer));
}

// Cells that know the file and the layer instead of a source.
struct Place {
  Segment::Kind kind = Segment::Kind::kAbsent;
  Uuid file;
  Uuid layer;
  uint64_t physical = 0;
  bool operator==(const Place&) const = default;
};

class ChainTest : public testing::Test {
 protected:
  void Build(size_t depth, std::mt19937_64& random) {
    places_.assign(kBlocks, {});
    layers_.clear();
    for (size_t i = 0; i < 5; ++i) pool_.push_back(Uuid::Random());
    for (size_t i = 0; i < depth; ++i) {
      const Uuid id = Uuid::Random();
      const size_t other = random() % 5;
      const std::vector<Uuid> others = {pool_[other], pool_[(other + 1 + random() % 4) % 5]};
      Cells cells(kBlocks);
      layers_.push_back(MakeLayer(id, others, ToArray(RandomMap(random, 3, &cells))));
      cells_.push_back(cells);
    }
    for (size_t i = 0; i < depth; ++i) Under(places_, PlacesOf(i));
  }
  std::vector<Place> PlacesOf(size_t layer) const {
    std::vector<Place> places(kBlocks);
    for (uint64_t b = 0; b < kBlocks; ++b) {
      const Cell& cell = cells_[layer][b];
      if (cell.kind == Segment::Kind::kAbsent) continue;
      const bool is_data = cell.kind == Segment::Kind::kData;
      places[b] = {cell.kind, is_data ? layers_[layer]->map.files[cell.source] : Uuid{},
                   layers_[layer]->superblock.id, cell.physical};
    }
    return places;
  }
  static void Under(std::vector<Place>& upper, const std::vector<Place>& lower) {
    for (uint64_t b = 0; b < kBlocks; ++b) {
      if (upper[b].kind == Segment::Kind::kAbsent) upper[b] = lower[b];
    }
  }

  std::vector<Uuid> pool_;
  std::vector<std::shared_ptr<const LayerMap>> layers_;  // top first
  std::vector<Cells> cells_;
  std::vector<Place> places_;  // of the chain
};

TEST_F(ChainTest, ReadsAsTheTopmostLayerSays) {
  std::mt19937_64 random(6);
  for (const size_t depth : {0, 1, 2, 3, 7, 64, 255}) {
    cells_.clear();
    Build(depth, random);
    const auto chain = MergeChain(layers_);
    ASSERT_OK(chain);
    ExpectJoined((*chain)->extents);
    std::vector<Place> found(kBlocks);
    for (const Extent& extent : (*chain)->extents.extents()) {
      const ChainMap::Source source = (*chain)->sources[extent.source()];
      for (uint64_t i = 0; i < extent.length(); ++i) {
        const auto kind = extent.is_data() ? Segment::Kind::kData : Segment::Kind::kZero;
        found[extent.start() + i] = {
            kind, extent.is_data() ? (*chain)->files[source.file_index] : Uuid{},
            (*chain)->layers[source.layer_index], extent.is_data() ? extent.physical() + i : 0};
      }
    }
    ASSERT_EQ(found, places_) << depth;
  }
}

std::vector<Place> PlacesIn(const FileMap& map) {
  std::vector<Place> places(kBlocks);
  for (const Extent& extent : map.extents.extents()) {
    for (uint64_t i = 0; i < extent.length(); ++i) {
      const auto kind = extent.is_data() ? Segment::Kind::kData : Segment::Kind::kZero;
      places[extent.start() + i] = {kind,
                                    extent.is_data() ? map.files[extent.source()] : Uuid{},
                                    {},
                                    extent.is_data() ? extent.physical() + i : 0};
    }
  }
  return places;
}

// Each data file but the layer's own is there because an extent names it: what is listed is kept.
void ExpectNamesItsFilesOnce(const FileMap& map) {
  std::set<uint64_t> named = {0};
  for (const Extent& extent : map.extents.extents()) {
    if (extent.is_data()) named.insert(extent.source());
  }
  EXPECT_EQ(named.size(), map.files.size());
  EXPECT_EQ(*named.rbegin() + 1, map.files.size());
  EXPECT_EQ(std::set<Uuid>(map.files.begin(), map.files.end()).size(), map.files.size());
}

TEST_F(ChainTest, MergedAndCollapsedMapsReadTheSame) {
  std::mt19937_64 random(7);
  for (int round = 0; round < 100; ++round) {
    cells_.clear();
    Build(2, random);
    for (Place& place : places_) place.layer = {};
    const FileMap merged = MergeParentInto(*layers_[0], *layers_[1]);
    EXPECT_EQ(merged.files[0], layers_[0]->superblock.id);
    ASSERT_EQ(PlacesIn(merged), places_);
    ExpectNamesItsFilesOnce(merged);
    const auto chain = MergeChain(layers_);
    ASSERT_OK(chain);
    const Uuid self = Uuid::Random();
    const FileMap whole = MapOfChain(**chain, self);
    EXPECT_EQ(whole.files[0], self);
    for (Place& place : places_) {
      if (place.kind == Segment::Kind::kZero) place = {};  // nothing lies below
    }
    ASSERT_EQ(PlacesIn(whole), places_);
    ExpectNamesItsFilesOnce(whole);
  }
}

TEST(BlockRanges, NormalizedSortsAndJoins) {
  EXPECT_EQ(Normalized({}), BlockRanges{});
  EXPECT_EQ(Normalized({{5, 7}, {1, 2}, {2, 3}, {6, 9}, {4, 4}, {20, 21}}),
            (BlockRanges{{1, 3}, {5, 9}, {20, 21}}));
}

}  // namespace
}  // namespace cowl
