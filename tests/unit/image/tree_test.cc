// Import of directory trees as ext4: what the disk holds is compared with the tree through a
// read-only mount.

#include <malloc.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>

#include <chrono>

#include "base/checksum.h"
#include "fakes.h"
#include "image/diff_sink.h"
#include "image/importer.h"

namespace cowl {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

int Shell(const std::string& command) {
  const int status = system(command.c_str());
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

absl::StatusOr<std::unique_ptr<Importer>> OpenTree(const std::string& path,
                                                   std::optional<uint64_t> size = std::nullopt) {
  ImportSourceOptions options;
  options.name = path;
  options.size_bytes = size;
  return OpenImporter(options, nullptr);
}

// Imports `tree` into the file `disk`.
absl::Status ImportTree(const std::string& tree, const std::string& disk,
                        std::optional<uint64_t> size = std::nullopt,
                        const Progress& progress = nullptr) {
  COWL_ASSIGN_OR_RETURN(const auto importer, OpenTree(tree, size));
  FileSink sink(disk, importer->size_bytes());
  COWL_RETURN_IF_ERROR(importer->Pour(sink, progress));
  for (const auto& [block, count] : sink.writes_of) {
    if (count > 1)
      return Internal("block " + std::to_string(block) + " was written more than once");
  }
  return absl::OkStatus();
}

int Fsck(const std::string& disk) {
  return Shell("e2fsck -fn " + disk + " > " + disk + ".fsck 2>&1 || { cat " + disk +
               ".fsck; false; }");
}

// All that is compared of one file.
std::string Fingerprint(const std::string& path) {
  struct stat st;
  if (lstat(path.c_str(), &st) != 0) return "absent";
  std::ostringstream text;
  text << std::oct << st.st_mode << std::dec << " " << st.st_uid << ":" << st.st_gid << " "
       << st.st_mtim.tv_sec << "." << st.st_mtim.tv_nsec;
  if (!S_ISDIR(st.st_mode)) text << " links " << st.st_nlink << " size " << st.st_size;
  if (S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode))
    text << " dev " << major(st.st_rdev) << "," << minor(st.st_rdev);
  if (S_ISLNK(st.st_mode)) text << " -> " << std::filesystem::read_symlink(path).string();
  if (S_ISREG(st.st_mode) && st.st_size < static_cast<off_t>(64 * kMiB)) {
    text << " hash " << Xxh3(AsBytes(ReadFile(path)));
  }
  std::string names(65536, '\0');
  const ssize_t length = llistxattr(path.c_str(), names.data(), names.size());
  std::map<std::string, std::string> xattrs;
  for (const char* at = names.data(); at < names.data() + length; at += strlen(at) + 1) {
    std::string value(65536, '\0');
    value.resize(static_cast<size_t>(lgetxattr(path.c_str(), at, value.data(), value.size())));
    xattrs[at] = value;
  }
  for (const auto& [name, value] : xattrs)
    text << " " << name << "=" << Xxh3(AsBytes(value)) << "/" << value.size();
  return text.str();
}

// Every file of a tree by path; hard links appear as groups of paths.
struct Listing {
  std::map<std::string, std::string> files;
  std::set<std::set<std::string>> link_groups;
};

void ListInto(const std::string& root, const std::string& below, Listing& listing,
              std::map<ino_t, std::set<std::string>>& groups) {
  for (const auto& entry : std::filesystem::directory_iterator(root + below)) {
    const std::string path = below + "/" + entry.path().filename().string();
    if (path == "/lost+found") continue;
    listing.files[path] = Fingerprint(root + path);
    struct stat st;
    lstat((root + path).c_str(), &st);
    if (!S_ISDIR(st.st_mode) && st.st_nlink > 1) groups[st.st_ino].insert(path);
    if (S_ISDIR(st.st_mode)) ListInto(root, path, listing, groups);
  }
}

Listing ListTree(const std::string& root) {
  Listing listing;
  std::map<ino_t, std::set<std::string>> groups;
  listing.files["/"] = Fingerprint(root + "/.");
  ListInto(root, "", listing, groups);
  for (const auto& [inode, paths] : groups) listing.link_groups.insert(paths);
  return listing;
}

// A read-only loop mount that goes away with the test.
class Mount {
 public:
  Mount(const std::string& disk, const std::string& at, const std::string& options = "ro,noload")
      : at_(at) {
    std::filesystem::create_directory(at);
    mounted_ = Shell("mount -t ext4 -o loop," + options + " " + disk + " " + at) == 0;
  }
  ~Mount() {
    if (mounted_) Shell("umount " + at_);
  }
  bool mounted() const { return mounted_; }

 private:
  const std::string at_;
  bool mounted_;
};

void ExpectSameTree(const std::string& source, const std::string& mount) {
  const Listing want = ListTree(source);
  const Listing have = ListTree(mount);
  for (const auto& [path, print] : want.files) {
    const auto found = have.files.find(path);
    EXPECT_EQ(found == have.files.end() ? "absent" : found->second, print) << path;
  }
  EXPECT_EQ(have.files.size(), want.files.size());
  EXPECT_EQ(have.link_groups, want.link_groups);
}

void SetTime(const std::string& path, time_t seconds, long nanoseconds) {
  const timespec times[2] = {{seconds, nanoseconds}, {seconds, nanoseconds}};
  EXPECT_EQ(utimensat(AT_FDCWD, path.c_str(), times, AT_SYMLINK_NOFOLLOW), 0) << path;
}

void MakeContents(const std::string& t) {
  WriteFile(t + "/empty", "");
  WriteFile(t + "/one", "x");
  for (const size_t size : {4095, 4096, 4097, 1048576, 1048577, 3000000}) {
    WriteFile(t + "/size-" + std::to_string(size), RandomBytes(size, static_cast<uint32_t>(size)));
  }
  // Zeros between data, and holes the file system knows of.
  std::string zeros = RandomBytes(40960, 7);
  zeros.replace(8192, 12288, std::string(12288, '\0'));
  WriteFile(t + "/zeros-inside", zeros);
  WriteFile(t + "/all-zeros", std::string(100000, '\0'));
  WriteFile(t + "/hole-only", "");
  EXPECT_EQ(truncate((t + "/hole-only").c_str(), 10 * kMiB + 5), 0);
  const int fd = open((t + "/sparse").c_str(), O_RDWR | O_CREAT, 0600);
  for (int i = 0; i < 2000; ++i)
    EXPECT_EQ(pwrite(fd, "data", 4, static_cast<off_t>(i) * 16384 + 100), 4);
  EXPECT_EQ(pwrite(fd, "end", 3, static_cast<off_t>(5 * kGiB)), 3);
  close(fd);
}

void MakeKinds(const std::string& t) {
  EXPECT_EQ(symlink("one", (t + "/link-fast").c_str()), 0);
  EXPECT_EQ(symlink(std::string(59, 'a').c_str(), (t + "/link-59").c_str()), 0);
  EXPECT_EQ(symlink(std::string(60, 'b').c_str(), (t + "/link-60").c_str()), 0);
  EXPECT_EQ(symlink(std::string(4095, 'c').c_str(), (t + "/link-4095").c_str()), 0);
  EXPECT_EQ(mknod((t + "/null").c_str(), S_IFCHR | 0666, makedev(1, 3)), 0);
  EXPECT_EQ(mknod((t + "/disk").c_str(), S_IFBLK | 0660, makedev(259, 70000)), 0);
  EXPECT_EQ(mkfifo((t + "/pipe").c_str(), 0640), 0);
  const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  strcpy(address.sun_path, (t + "/socket").c_str());
  EXPECT_EQ(bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  close(fd);
  std::filesystem::create_directories(t + "/dir/sub/subsub");
  WriteFile(t + "/dir/first", "linked");
  EXPECT_EQ(link((t + "/dir/first").c_str(), (t + "/dir/sub/second").c_str()), 0);
  EXPECT_EQ(link((t + "/dir/first").c_str(), (t + "/a-third").c_str()), 0);
  EXPECT_EQ(link((t + "/link-fast").c_str(), (t + "/link-linked").c_str()), 0);
}

void MakeNames(const std::string& t) {
  std::filesystem::create_directory(t + "/names");
  WriteFile(t + "/names/" + std::string(255, 'n'), "long");
  WriteFile(t + "/names/\xff\xfe\x80 not utf-8", "bytes");
  WriteFile(t + "/names/ space\ttab\nnewline", "white");
  WriteFile(t + "/names/-rf *", "shell");
  WriteFile(t + "/names/\xc3\xa4\xc3\xb6", "utf-8");
}

void MakeOwnersAndModes(const std::string& t) {
  WriteFile(t + "/suid", "#!");
  EXPECT_EQ(chown((t + "/suid").c_str(), 1000, 70000), 0);
  EXPECT_EQ(chmod((t + "/suid").c_str(), 06755), 0);
  WriteFile(t + "/high-ids", "");
  EXPECT_EQ(chown((t + "/high-ids").c_str(), 4000000000u, 3000000000u), 0);
  std::filesystem::create_directory(t + "/sticky");
  EXPECT_EQ(chmod((t + "/sticky").c_str(), 01777), 0);
  WriteFile(t + "/no-rights", "secret");
  EXPECT_EQ(chmod((t + "/no-rights").c_str(), 0), 0);
  EXPECT_EQ(lchown((t + "/link-60").c_str(), 5, 6), 0);
  SetTime(t + "/one", 1, 999999999);
  SetTime(t + "/empty", -1000000000, 5);
  SetTime(t + "/size-4095", 5000000000, 123456789);
  SetTime(t + "/link-fast", 1234567890, 1);
}

void MakeXattrs(const std::string& t) {
  const auto set = [](const std::string& path, const char* name, const std::string& value) {
    EXPECT_EQ(lsetxattr(path.c_str(), name, value.data(), value.size(), 0), 0)
        << path << " " << name;
  };
  WriteFile(t + "/xattrs", "x");
  set(t + "/xattrs", "user.small", "v");
  set(t + "/xattrs", "user.empty", "");
  set(t + "/xattrs", "user.large", RandomBytes(3000, 1));
  set(t + "/xattrs", "trusted.overlay.opaque", "y");
  set(t + "/xattrs", "security.something", std::string("nul\0inside", 10));
  set(t + "/link-4095", "trusted.on-a-link", "yes");
  set(t + "/dir", "user.dir", RandomBytes(200, 2));
  for (int i = 0; i < 20; ++i)
    set(t + "/sticky", ("user.n" + std::to_string(i * 7919)).c_str(), std::to_string(i));
  WriteFile(t + "/capable", "ping");
  EXPECT_EQ(Shell("setcap cap_net_raw+ep " + t + "/capable"), 0);
  EXPECT_EQ(Shell("setfacl -m u:1234:rw,g:4321:r,m::rw " + t + "/one"), 0);
  EXPECT_EQ(Shell("setfacl -d -m u:99:rwx " + t + "/dir/sub"), 0);
}

// One of everything.
void MakeNastyTree(const std::string& t) {
  std::filesystem::create_directories(t);
  MakeContents(t);
  MakeKinds(t);
  MakeNames(t);
  MakeOwnersAndModes(t);
  MakeXattrs(t);
  EXPECT_EQ(chmod(t.c_str(), 0751), 0);
  SetTime(t, 1600000000, 42);
}

bool IsRoot() { return geteuid() == 0; }

TEST(TreeImport, KeepsEverythingOfATree) {
  if (!IsRoot()) GTEST_SKIP() << "needs root, to make devices and to mount";
  TempDir dir;
  MakeNastyTree(dir / "tree");
  ASSERT_OK(ImportTree(dir / "tree", dir / "disk"));
  EXPECT_EQ(Fsck(dir / "disk"), 0);
  Mount mount(dir / "disk", dir / "mnt");
  ASSERT_TRUE(mount.mounted());
  ExpectSameTree(dir / "tree", dir / "mnt");
}

TEST(TreeImport, KeepsHolesAndMakesZerosHoles) {
  if (!IsRoot()) GTEST_SKIP() << "needs root, to mount";
  TempDir dir;
  std::filesystem::create_directories(dir / "tree");
  MakeContents(dir / "tree");
  ASSERT_OK(ImportTree(dir / "tree", dir / "disk"));
  Mount mount(dir / "disk", dir / "mnt");
  ASSERT_TRUE(mount.mounted());
  const auto blocks = [&](const std::string& name) {
    struct stat st;
    EXPECT_EQ(stat((dir / "mnt/" + name).c_str(), &st), 0);
    return st.st_blocks * 512 / 4096;
  };
  EXPECT_EQ(blocks("zeros-inside"), 7);
  EXPECT_EQ(blocks("all-zeros"), 0);
  EXPECT_EQ(blocks("hole-only"), 0);
  EXPECT_EQ(blocks("sparse"), 2001 + 7);  // 2001 extents: six leaves and an index above them
}

TEST(TreeImport, GivesTheSameBytesForTheSameTree) {
  if (!IsRoot()) GTEST_SKIP() << "needs root, to make devices";
  TempDir dir;
  MakeNastyTree(dir / "tree");
  ASSERT_OK(ImportTree(dir / "tree", dir / "one", 512 * kMiB));
  ASSERT_OK(ImportTree(dir / "tree", dir / "two", 512 * kMiB));
  EXPECT_EQ(Shell("cmp " + (dir / "one") + " " + (dir / "two")), 0);
}

TEST(TreeImport, GivesTheSameBytesForACopyOfTheTree) {
  if (!IsRoot()) GTEST_SKIP() << "needs root";
  TempDir dir;
  std::filesystem::create_directories(dir / "tree");
  MakeNames(dir / "tree");
  WriteFile(dir / "tree/zeros", std::string(kMiB, '\0') + "end");
  for (int i = 99; i >= 0; --i)
    WriteFile(dir / "tree/" + std::to_string(i), RandomBytes(5000, static_cast<uint32_t>(i)));
  ASSERT_EQ(Shell("mkdir " + (dir / "other") + " && mount -t tmpfs none " + (dir / "other")), 0);
  EXPECT_EQ(Shell("cp -a --sparse=always " + (dir / "tree") + " " + (dir / "other/copy")), 0);
  EXPECT_TRUE(ImportTree(dir / "tree", dir / "one", 128 * kMiB).ok());
  EXPECT_TRUE(ImportTree(dir / "other/copy", dir / "two", 128 * kMiB).ok());
  EXPECT_EQ(Shell("umount " + (dir / "other")), 0);
  EXPECT_EQ(Shell("cmp " + (dir / "one") + " " + (dir / "two")), 0);
}

TEST(TreeImport, StoresNothingForTheSameTreeOnItsOwnImage) {
  TempDir dir;
  std::filesystem::create_directories(dir / "tree");
  MakeNames(dir / "tree");
  WriteFile(dir / "tree/file", RandomBytes(300000, 3));
  auto first = OpenTree(dir / "tree");
  ASSERT_OK(first.status());
  MemorySink below((*first)->size_bytes());
  ASSERT_OK((*first)->Pour(below, nullptr));
  auto second = OpenTree(dir / "tree");
  ASSERT_OK(second.status());
  MemorySink inner((*second)->size_bytes());
  StringSource parent(below.Content());
  DiffSink diff(inner, parent);
  ASSERT_OK((*second)->Pour(diff, nullptr));
  ASSERT_OK(diff.Finish().status());
  EXPECT_TRUE(inner.blocks.empty());
}

TEST(TreeImport, IndexesLargeDirectories) {
  if (!IsRoot()) GTEST_SKIP() << "needs root, to mount";
  TempDir dir;
  std::filesystem::create_directories(dir / "tree/few");
  std::filesystem::create_directories(dir / "tree/many");
  for (int i = 0; i < 1000; ++i) WriteFile(dir / "tree/few/" + std::to_string(i), "");
  const std::string pad(200, 'p');
  // Long names: more than 507 leaves, so two levels of index.
  for (int i = 0; i < 12000; ++i) {
    const int fd =
        open((dir / "tree/many/" + pad + std::to_string(i)).c_str(), O_CREAT | O_WRONLY, 0644);
    ASSERT_GE(fd, 0);
    close(fd);
  }
  ASSERT_OK(ImportTree(dir / "tree", dir / "disk"));
  EXPECT_EQ(Fsck(dir / "disk"), 0);
  EXPECT_EQ(Shell("debugfs -R 'htree_dump /many' " + (dir / "disk") +
                  " 2>&1 | grep -q 'Indirect levels: 1'"),
            0);
  EXPECT_EQ(Shell("debugfs -R 'htree_dump /few' " + (dir / "disk") +
                  " 2>&1 | grep -q 'Indirect levels: 0'"),
            0);
  Mount mount(dir / "disk", dir / "mnt", "rw");
  ASSERT_TRUE(mount.mounted());
  ExpectSameTree(dir / "tree", dir / "mnt");
  EXPECT_EQ(access((dir / "mnt/many/" + pad + "11999").c_str(), F_OK), 0);
  // The kernel can add to and remove from what was built here.
  for (int i = 0; i < 3000; ++i) WriteFile(dir / "mnt/many/new" + std::to_string(i), "n");
  for (int i = 0; i < 12000; i += 2)
    EXPECT_EQ(unlink((dir / "mnt/many/" + pad + std::to_string(i)).c_str()), 0);
  ASSERT_EQ(Shell("umount " + (dir / "mnt") + " && e2fsck -fn " + (dir / "disk") +
                  " >/dev/null 2>&1; r=$?; mount -o loop " + (dir / "disk") + " " + (dir / "mnt") +
                  "; exit $r"),
            0);
}

TEST(TreeImport, MountsWritableWithAJournalAndTrims) {
  if (!IsRoot()) GTEST_SKIP() << "needs root, to mount";
  TempDir dir;
  std::filesystem::create_directories(dir / "tree");
  WriteFile(dir / "tree/file", RandomBytes(kMiB, 1));
  ASSERT_OK(ImportTree(dir / "tree", dir / "disk"));
  {
    Mount mount(dir / "disk", dir / "mnt", "rw");
    ASSERT_TRUE(mount.mounted());
    EXPECT_EQ(Shell("grep -q ' " + (dir / "mnt") + " ext4 rw' /proc/mounts"), 0);
    WriteFile(dir / "mnt/new", RandomBytes(20 * kMiB, 2));
    EXPECT_EQ(Shell("sync -f " + (dir / "mnt") + " && rm " + (dir / "mnt/file") + " && fstrim " +
                    (dir / "mnt")),
              0);
  }
  EXPECT_EQ(Fsck(dir / "disk"), 0);
  EXPECT_EQ(Shell("dumpe2fs -h " + (dir / "disk") +
                  " 2>/dev/null | grep -q 'Filesystem features:.*has_journal.*metadata_csum'"),
            0);
}

TEST(TreeImport, StaysOnItsFileSystem) {
  if (!IsRoot()) GTEST_SKIP() << "needs root, to mount";
  TempDir dir;
  std::filesystem::create_directories(dir / "tree/mounted");
  std::filesystem::create_directories(dir / "tree/bound");
  WriteFile(dir / "tree/file", "under");
  WriteFile(dir / "outside", "over");
  ASSERT_EQ(Shell("mount -t tmpfs -o mode=0711 none " + (dir / "tree/mounted") + " && echo x > " +
                  (dir / "tree/mounted/x") + " && mount --bind /etc " + (dir / "tree/bound") +
                  " && mount --bind " + (dir / "outside") + " " + (dir / "tree/file")),
            0);
  EXPECT_TRUE(ImportTree(dir / "tree", dir / "disk").ok());
  EXPECT_EQ(Shell("umount " + (dir / "tree/file") + " " + (dir / "tree/bound") + " " +
                  (dir / "tree/mounted")),
            0);
  EXPECT_EQ(Fsck(dir / "disk"), 0);
  Mount mount(dir / "disk", dir / "mnt");
  ASSERT_TRUE(mount.mounted());
  EXPECT_TRUE(std::filesystem::is_empty(dir / "mnt/mounted"));
  EXPECT_TRUE(std::filesystem::is_empty(dir / "mnt/bound"));
  EXPECT_EQ(ReadFile(dir / "mnt/file"), "");
}

TEST(TreeImport, KeepsALostAndFoundOfTheTreesOwn) {
  if (!IsRoot()) GTEST_SKIP() << "needs root, to mount";
  TempDir dir;
  std::filesystem::create_directories(dir / "tree/lost+found/#123");
  WriteFile(dir / "tree/lost+found/#124", "found");
  ASSERT_OK(ImportTree(dir / "tree", dir / "disk"));
  EXPECT_EQ(Fsck(dir / "disk"), 0);
  Mount mount(dir / "disk", dir / "mnt");
  ASSERT_TRUE(mount.mounted());
  EXPECT_EQ(ReadFile(dir / "mnt/lost+found/#124"), "found");
}

TEST(TreeImport, TakesDeepTrees) {
  TempDir dir;
  std::filesystem::create_directories(dir / "tree");
  // Paths of 30,000 characters, far beyond PATH_MAX.
  int at = open((dir / "tree").c_str(), O_RDONLY | O_DIRECTORY);
  const std::string name(100, 'd');
  for (int depth = 0; depth < 300; ++depth) {
    ASSERT_EQ(mkdirat(at, name.c_str(), 0755), 0);
    const int next = openat(at, name.c_str(), O_RDONLY | O_DIRECTORY);
    close(at);
    at = next;
  }
  const int file = openat(at, "file", O_CREAT | O_WRONLY, 0644);
  ASSERT_EQ(write(file, "deep", 4), 4);
  close(file);
  close(at);
  ASSERT_OK(ImportTree(dir / "tree", dir / "disk"));
  EXPECT_EQ(Fsck(dir / "disk"), 0);
  EXPECT_EQ(Shell("rm -rf " + (dir / "tree")), 0);
}

TEST(TreeImport, ReckonsItsSizeFromTheContent) {
  TempDir dir;
  std::filesystem::create_directories(dir / "tree");
  auto empty = OpenTree(dir / "tree");
  ASSERT_OK(empty.status());
  EXPECT_EQ((*empty)->size_bytes(), 80 * kMiB);  // 64 MiB and a little, rounded up to 16
  WriteFile(dir / "tree/file", RandomBytes(100 * kMiB, 1));
  auto full = OpenTree(dir / "tree");
  ASSERT_OK(full.status());
  EXPECT_EQ((*full)->size_bytes(), 192 * kMiB);  // 125 + 64 and a little
}

uint64_t NamedSize(const std::string& message) {
  const size_t at = message.rfind("at least ");
  return at == std::string::npos ? 0 : std::stoull(message.substr(at + 9));
}

TEST(TreeImport, SaysHowMuchATreeNeedsAndThatIsEnough) {
  TempDir dir;
  std::filesystem::create_directories(dir / "tree");
  int files = 0;
  const auto check = [&] {
    const auto small = OpenTree(dir / "tree", kMiB);
    ASSERT_FALSE(small.ok());
    const uint64_t least = NamedSize(Message(small.status()));
    ASSERT_GT(least, 0u) << small.status().ToString();
    for (const uint64_t size :
         {least, least + kMiB, least + 17 * kMiB, RoundUp(least, 128 * kMiB) + kMiB}) {
      const absl::Status status = ImportTree(dir / "tree", dir / "disk", size);
      ASSERT_TRUE(status.ok()) << size << " " << status.ToString();
      EXPECT_EQ(Fsck(dir / "disk"), 0) << size;
    }
  };
  WriteFile(dir / "tree/file", RandomBytes(5 * kMiB, 1));
  check();
  for (; files < 20000; ++files) {  // inodes, no data
    const int fd = open((dir / "tree/e" + std::to_string(files)).c_str(), O_CREAT | O_WRONLY, 0644);
    close(fd);
  }
  check();
  WriteFile(dir / "tree/big", RandomBytes(200 * kMiB, 2));
  check();
}

TEST(TreeImport, NamesAFileThatCannotBeRead) {
  if (!IsRoot()) GTEST_SKIP() << "needs root, to become nobody";
  TempDir dir;
  ASSERT_EQ(chmod(dir.path().c_str(), 0777), 0);
  std::filesystem::create_directories(dir / "tree/sub");
  WriteFile(dir / "tree/sub/secret", "s");
  ASSERT_EQ(chmod((dir / "tree/sub/secret").c_str(), 0600), 0);
  ASSERT_EQ(seteuid(65534), 0);
  const auto importer = OpenTree(dir / "tree");
  ASSERT_EQ(seteuid(0), 0);
  ASSERT_FALSE(importer.ok());
  EXPECT_THAT(Message(importer.status()),
              AllOf(HasSubstr("tree/sub/secret"), HasSubstr("Permission denied")));
}

TEST(TreeImport, WorksAsNobody) {
  if (!IsRoot()) GTEST_SKIP() << "needs root, to become nobody";
  TempDir dir;
  ASSERT_EQ(chmod(dir.path().c_str(), 0777), 0);
  ASSERT_EQ(
      Shell("setpriv --reuid=65534 --regid=65534 --clear-groups sh -c 'cd " + dir.path() +
            " && mkdir -p tree/a/b && echo hello > tree/a/file && ln -s file tree/a/link && ln "
            "tree/a/file tree/hard'"),
      0);
  EXPECT_EQ(
      lsetxattr((dir / "tree/a/file").c_str(), "security.capability",
                "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
                20, 0),
      0);
  const pid_t child = fork();
  if (child == 0) {
    if (setgid(65534) != 0 || setuid(65534) != 0) _exit(2);
    _exit(ImportTree(dir / "tree", dir / "disk").ok() ? 0 : 1);
  }
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_EQ(status, 0);
  EXPECT_EQ(Fsck(dir / "disk"), 0);
  Mount mount(dir / "disk", dir / "mnt");
  ASSERT_TRUE(mount.mounted());
  ExpectSameTree(dir / "tree", dir / "mnt");
}

// Alters the tree when the import asks for the first time whether to go on with the contents.
absl::Status ImportWhile(const std::string& tree, const std::string& disk,
                         const std::function<void()>& change) {
  auto importer = OpenTree(tree);
  if (!importer.ok()) return importer.status();
  FileSink sink(disk, (*importer)->size_bytes());
  bool changed = false;
  return (*importer)->Pour(sink, [&](uint64_t, uint64_t) {
    if (!changed) change();
    changed = true;
    return true;
  });
}

TEST(TreeImport, NoticesAFileThatShrinks) {
  TempDir dir;
  std::filesystem::create_directories(dir / "tree");
  WriteFile(dir / "tree/log", RandomBytes(kMiB, 1));
  const absl::Status status = ImportWhile(dir / "tree", dir / "disk", [&] {
    EXPECT_EQ(truncate((dir / "tree/log").c_str(), 1000), 0);
  });
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(Message(status),
              AllOf(HasSubstr("tree/log"), HasSubstr("1048576"), HasSubstr("1000")));
}

TEST(TreeImport, NoticesAFileThatVanishesOrIsReplaced) {
  TempDir dir;
  std::filesystem::create_directories(dir / "tree");
  WriteFile(dir / "tree/log", RandomBytes(kMiB, 1));
  absl::Status status =
      ImportWhile(dir / "tree", dir / "disk", [&] { unlink((dir / "tree/log").c_str()); });
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(Message(status), HasSubstr("tree/log"));
  WriteFile(dir / "tree/log", RandomBytes(kMiB, 1));
  status = ImportWhile(dir / "tree", dir / "disk", [&] {
    unlink((dir / "tree/log").c_str());
    EXPECT_EQ(symlink("/etc/shadow", (dir / "tree/log").c_str()), 0);
  });
  EXPECT_FALSE(status.ok());
  EXPECT_THAT(Message(status), HasSubstr("tree/log"));
}

TEST(TreeImport, StopsWhenProgressSaysSo) {
  TempDir dir;
  std::filesystem::create_directories(dir / "tree");
  WriteFile(dir / "tree/big", RandomBytes(8 * kMiB, 1));
  const absl::Status status = ImportTree(dir / "tree", dir / "disk", std::nullopt,
                                         [](uint64_t done, uint64_t) { return done < 4 * kMiB; });
  EXPECT_EQ(status.code(), absl::StatusCode::kCancelled);
}

TEST(TreeImport, RefusesAttributesThatExt4CannotHold) {
  TempDir dir;
  if (!IsRoot()) GTEST_SKIP() << "needs root, to mount a tmpfs";
  std::filesystem::create_directories(dir / "tree");
  ASSERT_EQ(Shell("truncate -s 400M " + (dir / "xfs") + " && mkfs.xfs -q " + (dir / "xfs") +
                  " && mount -o loop " + (dir / "xfs") + " " + (dir / "tree")),
            0);
  WriteFile(dir / "tree/file", "x");
  const std::string large(20000, 'v');
  EXPECT_EQ(setxattr((dir / "tree/file").c_str(), "user.large", large.data(), large.size(), 0), 0);
  const absl::Status status = ImportTree(dir / "tree", dir / "disk");
  EXPECT_EQ(Shell("umount " + (dir / "tree")), 0);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(Message(status),
              AllOf(HasSubstr("tree/file"), HasSubstr("user.large"), HasSubstr("20000")));
}

uint64_t PeakResidentKib() {
  const std::string status = ReadFile("/proc/self/status");
  return std::stoull(status.substr(status.find("VmHWM:") + 6));
}

TEST(TreeImport, StreamsALargeFile) {
  TempDir dir;
  std::filesystem::create_directories(dir / "tree");
  {
    const std::string piece = RandomBytes(64 * kMiB, 1);
    std::ofstream out(dir / "tree/large", std::ios::binary);
    for (int i = 0; i < 16; ++i)
      out.write(piece.data(), static_cast<std::streamsize>(piece.size()));
  }
  malloc_trim(0);
  WriteFile("/proc/self/clear_refs", "5");  // the peak counts from here
  const uint64_t before_kib = PeakResidentKib();
  const auto start = std::chrono::steady_clock::now();
  ASSERT_OK(ImportTree(dir / "tree", dir / "disk"));
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  const uint64_t grown_kib = PeakResidentKib() - before_kib;
  std::printf("1 GiB in %.2f s, %.0f MiB/s, resident set grew by %lu KiB\n", seconds,
              1024 / seconds, grown_kib);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
  EXPECT_LT(grown_kib, 64 * 1024);  // a sanitizer's shadow of the memory would count, too
#endif
  EXPECT_EQ(Fsck(dir / "disk"), 0);
}

}  // namespace
}  // namespace cowl
