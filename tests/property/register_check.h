// register_check.h: whether what was written to and read from one place, by requests that
// overlapped in time, can have happened one after the other (linearizability of a register; every
// written value differs). Gibbons and Korach's test: the reads of a value and its write form a
// cluster. A cluster whose operations do not all overlap holds the register for the time from the
// first end to the last start; two such times must not overlap, and no cluster may fit whole into
// such a time of another. Times: any clock that only grows. Cost: O(n log n).
#pragma once

#include <cstdint>
#include <map>
#include <string>

namespace cowl {

class RegisterCheck {
 public:
  // A write or a read of `value`. The value 0 is what was there first; several writes may write it.
  void Write(uint64_t value, uint64_t begin, uint64_t end);
  void Read(uint64_t value, uint64_t begin, uint64_t end);
  // "" or why there is no order. Values of 0 are judged one by one: each read needs a write that it
  // can have seen.
  std::string Check() const;

 private:
  struct Span {
    uint64_t begin;
    uint64_t end;
  };
  struct Cluster {
    Span write{0, 0};
    bool is_written = false;
    uint64_t first_end = UINT64_MAX;
    uint64_t last_begin = 0;
    void Add(const Span& span);
  };

  std::string CheckZeros() const;

  std::map<uint64_t, Cluster> clusters_;  // by value; not 0
  std::multimap<uint64_t, Span> zero_writes_;
  std::multimap<uint64_t, Span> zero_reads_;
};

}  // namespace cowl
