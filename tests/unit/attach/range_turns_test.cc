// Changes that overlap take turns.
#include "attach/range_turns.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <random>
#include <thread>
#include <vector>

namespace cowl {
namespace {

using namespace std::chrono_literals;

class Waiting {
 public:
  Waiting(RangeTurns& turns, uint64_t begin, uint64_t end)
      : thread_([this, &turns, begin, end] {
          const RangeTurns::Turn turn(turns, begin, end);
          had_turn_ = true;
        }) {
    std::this_thread::sleep_for(20ms);  // it has come, or waits
  }
  bool had_turn() const { return had_turn_; }
  void Join() { thread_.join(); }

 private:
  std::atomic<bool> had_turn_ = false;
  std::thread thread_;
};

TEST(RangeTurns, WhatOverlapsWaitsInTheOrderItCame) {
  RangeTurns turns;
  auto first = std::make_unique<RangeTurns::Turn>(turns, 0, 10);
  Waiting second(turns, 9, 20);
  Waiting behind_second(turns, 15, 16);
  Waiting elsewhere(turns, 20, 30);
  EXPECT_FALSE(second.had_turn());
  EXPECT_FALSE(behind_second.had_turn());
  EXPECT_TRUE(elsewhere.had_turn());
  first.reset();
  for (Waiting* waiting : {&second, &behind_second, &elsewhere}) waiting->Join();
  EXPECT_TRUE(second.had_turn());
  EXPECT_TRUE(behind_second.had_turn());
}

TEST(RangeTurns, NoBlockIsChangedByTwoAtOnce) {
  RangeTurns turns;
  std::vector<std::atomic<int>> blocks(8);
  std::atomic<int> clashes = 0;
  std::vector<std::thread> threads;
  for (uint64_t seed = 0; seed < 6; ++seed) {
    threads.emplace_back([&, seed] {
      std::mt19937_64 random(seed);
      for (int i = 0; i < 2000; ++i) {
        const uint64_t begin = random() % 8;
        const uint64_t end = begin + 1 + random() % (8 - begin);
        const RangeTurns::Turn turn(turns, begin, end);
        for (uint64_t at = begin; at < end; ++at) clashes += blocks[at]++ != 0;
        for (uint64_t at = begin; at < end; ++at) --blocks[at];
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(clashes, 0);
}

}  // namespace
}  // namespace cowl
