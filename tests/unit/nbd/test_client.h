// test_client.h: an NBD client that blocks, says exactly what a test wants said, and fails the test when the server is silent for
// ten seconds.
#pragma once

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "base/status.h"
#include "base/unique_fd.h"
#include "nbd/codec.h"

namespace cowl::nbd {

inline std::pair<UniqueFd, UniqueFd> MakeSocketPair() {
  int fds[2];
  COWL_CHECK(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
  return {UniqueFd(fds[0]), UniqueFd(fds[1])};
}

class TestClient {
 public:
  struct Answer {
    uint64_t cookie = 0;
    uint32_t error = 0;
    std::string message;
    std::string data;  // a read's, holes filled in, from the request's offset on
    std::vector<std::pair<uint16_t, std::string>> chunks;  // type and payload
  };

  explicit TestClient(UniqueFd in, UniqueFd out = UniqueFd()) : in_(std::move(in)), out_(std::move(out)) {
    const timeval patience{10, 0};
    ::setsockopt(in_.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
  }

  static TestClient Connect(const std::string& path) {
    UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, path.c_str(), sizeof(address.sun_path) - 1);
    EXPECT_EQ(::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0) << path;
    return TestClient(std::move(fd));
  }

  int fd() const { return in_.get(); }
  void Close() {
    in_.Reset();
    out_.Reset();
  }
  void CloseWriteSide() { ::shutdown(in_.get(), SHUT_WR); }

  // --- Bytes ---

  // False when the server takes no more.
  bool Say(std::string_view bytes) {
    const int fd = out_.valid() ? out_.get() : in_.get();
    while (!bytes.empty()) {
      const ssize_t said =
          out_.valid() ? ::write(fd, bytes.data(), bytes.size()) : ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (said < 0 && errno == EINTR) continue;
      if (said <= 0) return false;
      bytes.remove_prefix(static_cast<size_t>(said));
    }
    return true;
  }
  // As many bytes as came before the end, `size` at most.
  std::string Hear(size_t size) {
    std::string heard(size, '\0');
    size_t got = 0;
    while (got < size) {
      const ssize_t count = ::read(in_.get(), heard.data() + got, size - got);
      if (count < 0 && errno == EINTR) continue;  // a ring of this process that ended
      if (count < 0 && errno == EAGAIN) ADD_FAILURE() << "the server is silent";
      if (count <= 0) break;
      got += static_cast<size_t>(count);
    }
    heard.resize(got);
    return heard;
  }
  // The server has closed the connection, having said nothing more.
  bool IsAtEnd() { return Hear(1).empty(); }

  // --- Handshake ---

  void Greet() {
    EXPECT_EQ(Hear(18).size(), 18u);
    std::string flags;
    WireWriter(flags).U32(kClientFixedNewstyle | kClientNoZeroes);
    Say(flags);
  }
  // The type of the last reply; 0 at the end of the stream.
  uint32_t Option(uint32_t option, std::string_view data = {}) {
    std::string bytes;
    AppendOption(option, data, bytes);
    Say(bytes);
    for (;;) {
      const std::string head = Hear(sizeof(WireOptionReply));
      const auto reply = DecodeOptionReplyHeader(AsBytes(head));
      if (!reply) return 0;
      last_option_data_ = Hear(reply->data_bytes);
      if (reply->type == kRepInfo && LoadBig<uint16_t>(last_option_data_.data()) == kInfoExport) {
        size_bytes_ = LoadBig<uint64_t>(last_option_data_.data() + 2);
        flags_ = LoadBig<uint16_t>(last_option_data_.data() + 10);
      }
      if (reply->type == kRepAck || (reply->type & kReplyErrorBit) != 0) return reply->type;
    }
  }
  // The whole handshake, from the greeting on.
  TestClient& Go(std::string_view name, bool structured = true, std::vector<std::string_view> contexts = {}) {
    Greet();
    structured_ = structured;
    if (structured) {
      EXPECT_EQ(Option(kOptStructuredReply), kRepAck);
    }
    if (!contexts.empty()) {
      EXPECT_EQ(Option(kOptSetMetaContext, EncodeMetaContextQuery({name, contexts})), kRepAck);
    }
    EXPECT_EQ(Option(kOptGo, EncodeInfoQuery({name, {}})), kRepAck) << last_option_data_;
    return *this;
  }
  uint64_t size_bytes() const { return size_bytes_; }
  uint16_t flags() const { return flags_; }
  const std::string& last_option_data() const { return last_option_data_; }

  // --- Requests ---

  // Sends it without waiting; its cookie.
  uint64_t Ask(uint16_t type, uint64_t offset_bytes, uint32_t length_bytes, uint16_t flags = 0, std::string_view payload = {}) {
    const Request request{flags, type, next_cookie_++, offset_bytes, length_bytes};
    requests_[request.cookie] = request;
    std::string bytes(AsText(EncodeRequest(request)));
    bytes += payload;
    Say(bytes);
    return request.cookie;
  }
  uint64_t AskWrite(uint64_t offset_bytes, std::string_view data, uint16_t flags = 0) {
    return Ask(kCmdWrite, offset_bytes, static_cast<uint32_t>(data.size()), flags, data);
  }

  // The next whole answer; cookie 0 at the end of the stream. Answers whose chunks are mixed with others' are put together.
  Answer Next() {
    for (;;) {
      const std::string magic = Hear(4);
      if (magic.size() < 4) return {};
      const bool is_simple = LoadBig<uint32_t>(magic.data()) == kSimpleReplyMagic;
      if (is_simple) return NextSimple(magic);
      Answer answer;
      if (TakeChunk(magic, answer)) return answer;
    }
  }
  Answer AskAndWait(uint16_t type, uint64_t offset_bytes, uint32_t length_bytes, uint16_t flags = 0) {
    const uint64_t cookie = Ask(type, offset_bytes, length_bytes, flags);
    Answer answer = Next();
    EXPECT_EQ(answer.cookie, cookie);
    return answer;
  }
  std::string Read(uint64_t offset_bytes, uint32_t length_bytes) {
    Answer answer = AskAndWait(kCmdRead, offset_bytes, length_bytes);
    EXPECT_EQ(answer.error, kOk) << answer.message;
    return answer.data;
  }
  uint32_t Write(uint64_t offset_bytes, std::string_view data, uint16_t flags = 0) {
    const uint64_t cookie = AskWrite(offset_bytes, data, flags);
    const Answer answer = Next();
    EXPECT_EQ(answer.cookie, cookie);
    return answer.error;
  }
  void SayGoodbye() {
    Ask(kCmdDisc, 0, 0);
    EXPECT_TRUE(IsAtEnd());
  }

 private:
  Answer NextSimple(const std::string& magic) {
    const std::string head = magic + Hear(sizeof(WireSimpleReply) - 4);
    const auto reply = DecodeSimpleReply(AsBytes(head));
    if (!reply) return {};
    Answer answer;
    answer.cookie = reply->cookie;
    answer.error = reply->error;
    const auto request = requests_.find(reply->cookie);  // not there: a test that said its own bytes
    if (request != requests_.end() && request->second.type == kCmdRead) {
      EXPECT_FALSE(structured_) << "a simple reply to a read";
      if (reply->error == kOk) answer.data = Hear(request->second.length_bytes);
    }
    return answer;
  }

  // True when it was the last of its answer.
  bool TakeChunk(const std::string& magic, Answer& done) {
    const std::string head = magic + Hear(sizeof(WireChunk) - 4);
    const auto chunk = DecodeChunk(AsBytes(head));
    if (!chunk) {
      ADD_FAILURE() << "bytes that are no reply";
      return true;
    }
    EXPECT_TRUE(structured_);
    const std::string payload = Hear(chunk->payload_bytes);
    Answer& answer = parts_[chunk->cookie];
    answer.cookie = chunk->cookie;
    answer.chunks.emplace_back(chunk->type, payload);
    ApplyChunk(*chunk, payload, answer);
    if ((chunk->flags & kReplyFlagDone) == 0) return false;
    done = std::move(answer);
    parts_.erase(chunk->cookie);
    return true;
  }

  void ApplyChunk(const Chunk& chunk, const std::string& payload, Answer& answer) {
    const Request& request = requests_[chunk.cookie];
    if (request.type == kCmdRead) answer.data.resize(request.length_bytes, '?');
    if (chunk.type == kChunkError) {
      answer.error = LoadBig<uint32_t>(payload.data());
      answer.message = payload.substr(6);
    } else if (chunk.type == kChunkOffsetData) {
      answer.data.replace(LoadBig<uint64_t>(payload.data()) - request.offset_bytes, payload.size() - 8, payload.substr(8));
    } else if (chunk.type == kChunkOffsetHole) {
      const uint32_t hole_bytes = LoadBig<uint32_t>(payload.data() + 8);
      answer.data.replace(LoadBig<uint64_t>(payload.data()) - request.offset_bytes, hole_bytes, std::string(hole_bytes, '\0'));
    }
  }

  UniqueFd in_;
  UniqueFd out_;
  bool structured_ = false;
  uint64_t size_bytes_ = 0;
  uint16_t flags_ = 0;
  std::string last_option_data_;
  uint64_t next_cookie_ = 1;
  std::map<uint64_t, Request> requests_;
  std::map<uint64_t, Answer> parts_;
};

}  // namespace cowl::nbd
