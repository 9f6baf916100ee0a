#include "tools/cowl/verbs.h"

namespace cowl {
namespace {

constexpr Value kNoValue{nullptr};

Value Required(const char* name, ValueKind kind) { return {name, kind, true, "", ""}; }
Value Optional(const char* name, ValueKind kind) { return {name, kind, false, "", ""}; }
Value Choice(const char* choices, const char* unsupported) {
  return {"FORMAT", ValueKind::kChoice, true, choices, unsupported};
}

const char kForceTag[] = "move the tag when it is taken";

std::vector<Verb> ContentVerbs() {
  return {
      {"init",
       "make an empty store",
       {},
       {},
       nullptr,
       "Makes an empty store in the directory that --store names. The directory must not exist, or "
       "be empty.",
       {{"cowl --store /srv/cowl init", "an empty store in /srv/cowl"}},
       RunInit},
      {"import",
       "make an image from a disk file, a device or a directory",
       {Required("SOURCE", ValueKind::kPath), Required("IMAGE", ValueKind::kImage)},
       {{"--format", Choice("raw|qcow2|dir|oci", "oci"),
         "what SOURCE is; detected for directories, else raw"},
        {"--size", Required("N", ValueKind::kSize),
         "size of the disk; not below what SOURCE needs"},
        {"--parent", Required("IMAGE", ValueKind::kImage),
         "store only what differs from this image, as one new layer"}},
       kForceTag,
       "Makes an image of what SOURCE holds. A raw disk file or device is taken as it is, and "
       "never probed for another format; "
       "qcow2 must be named. A directory becomes an ext4 file system: by default 1.25 times its "
       "content and 64 MiB, rounded up "
       "to 16 MiB; the same tree and size give the same bytes.\n\n"
       "Blocks that are all zero are not stored.",
       {{"cowl import disk.raw debian", "a raw disk as image debian:latest"},
        {"cowl import --format qcow2 cloud.qcow2 debian:12", "a qcow2 image"},
        {"cowl import ./rootfs web:v1 --size 2G", "a directory tree as a 2 GiB ext4 disk"},
        {"cowl import new.raw debian:13 --parent debian:12", "one layer that holds what changed"}},
       RunImport,
       CheckImport},
      {"export",
       "write an image or device to a file",
       {Required("NAME", ValueKind::kName), Required("FILE", ValueKind::kPath)},
       {{"--format", Choice("raw|qcow2|oci", "oci"), "what to write: raw (the default) or qcow2"}},
       "replace FILE when it exists",
       "Writes the whole disk as it is now. FILE - is standard output, for raw. A device may go on "
       "being written: its state at the "
       "start is what is exported.",
       {{"cowl export web web.raw", "a device as a raw file, with holes where it reads as zeros"},
        {"cowl export --format qcow2 debian:12 debian.qcow2", "an image as qcow2"},
        {"cowl export debian - | zstd > debian.raw.zst", "through a pipe"}},
       RunExport,
       CheckExport},
      {"images",
       "list images",
       {},
       {},
       nullptr,
       "Lists the images. With -q only their names, one a line.",
       {{"cowl images", "a table"},
        {"cowl images -q | xargs -n1 cowl history", "the history of each"}},
       RunImages},
      {"history",
       "show the chain of layers of an image",
       {Required("IMAGE", ValueKind::kImage)},
       {},
       nullptr,
       "The layers of an image, top first: what each adds, and how much of that the layers above "
       "it hide.",
       {{"cowl history debian:12", "its layers"}},
       RunHistory},
      {"flatten",
       "make one layer of a chain",
       {Required("IMAGE", ValueKind::kImage), Required("NEW", ValueKind::kImage)},
       {},
       kForceTag,
       "Makes a new image with the same content in a single layer.",
       {{"cowl flatten web:v9 web:flat", "one layer"}},
       RunFlatten},
      {"tag",
       "give an image a second name",
       {Required("IMAGE", ValueKind::kImage), Required("NEW", ValueKind::kImage)},
       {},
       kForceTag,
       "NEW names the same layers. Nothing is copied.",
       {{"cowl tag web:v9 web:stable --force", "moves web:stable"}},
       RunTag},
      {"rmi",
       "remove an image",
       {Required("IMAGE", ValueKind::kImage)},
       {},
       "disconnect who uses it, and remove it",
       "Removes the name, and the layers that nobody else needs. Devices made from the image stay "
       "as they are.",
       {{"cowl rmi web:v1", "removes the tag v1"}},
       RunRmi},
  };
}

std::vector<Verb> DeviceVerbs() {
  const Value size = Required("N", ValueKind::kSize);
  const Option cap{"--cap", size,
                   "bound on stored bytes: a write beyond it gets ENOSPC, a discard makes room"};
  return {
      {"create",
       "make a writable device",
       {Optional("IMAGE", ValueKind::kImage), Optional("NAME", ValueKind::kDevice)},
       {{"--empty", Required("SIZE", ValueKind::kSize),
         "on nothing, of this size, in place of IMAGE"},
        {"--size", size, "larger than the image; not below it"},
        cap,
        {"--attach", kNoValue, "attach it, too (see cowl help attach)"}},
       nullptr,
       "Makes a device on an image, or with --empty on nothing, and prints its name. Without NAME "
       "one is made from the image's. "
       "It takes no space until it is written.",
       {{"cowl create debian:12 web", "device web on image debian:12"},
        {"cowl create debian:12 --size 20G --cap 2G", "20 GiB, of which 2 GiB may be stored"},
        {"cowl create --empty 10G scratch", "10 GiB of zeros"}},
       RunCreate,
       CheckCreate},
      {"clone",
       "make a second device from the present state of one",
       {Required("DEVICE", ValueKind::kDevice), Optional("NAME", ValueKind::kDevice)},
       {},
       nullptr,
       "Both go on from the same state, on their own. The first may be in use.",
       {{"cowl clone web web-copy", "web-copy starts where web is now"}},
       RunClone},
      {"volume create",
       "make a device that bypasses copy-on-write",
       {Required("NAME", ValueKind::kDevice)},
       {{"--size", size, "its size (must be given)"}},
       nullptr,
       "One preallocated raw file, as fast as the file system below, for data that is written "
       "hard. It has no checksums, snapshot, "
       "commit, reset or diff.",
       {{"cowl volume create pgdata --size 100G", "100 GiB, reserved now"}},
       RunVolumeCreate,
       CheckVolumeCreate},
      {"ls",
       "list devices",
       {},
       {},
       nullptr,
       "Lists the devices. With -q only their names, one a line.",
       {{"cowl ls", "a table"}, {"cowl ls --json | jq '.devices[].name'", "for scripts"}},
       RunLs},
      {"inspect",
       "show all about an image or device",
       {Required("NAME", ValueKind::kName)},
       {},
       nullptr,
       "Size, layers with their files, where it is served, attached and mounted.",
       {{"cowl inspect web", "for people"}, {"cowl inspect web --json", "for scripts"}},
       RunInspect},
      {"snapshot",
       "freeze the present state of a device into an image",
       {Required("DEVICE", ValueKind::kDevice), Required("IMAGE", ValueKind::kImage)},
       {},
       kForceTag,
       "The device runs on, also while it is served and written. A mounted file system is frozen "
       "as a power cut would leave it: "
       "sync or freeze it first when that matters.",
       {{"cowl snapshot web web:nightly", "the state of now"}},
       RunSnapshot},
      {"commit",
       "seal a device into an image",
       {Required("DEVICE", ValueKind::kDevice), Required("IMAGE", ValueKind::kImage)},
       {},
       "disconnect who uses the device; move the tag when it is taken",
       "The device becomes the image's top layer and ends. No data is copied.",
       {{"cowl commit web web:v2", "web is now image web:v2"}},
       RunCommit},
      {"reset",
       "take a device back to its image",
       {Required("DEVICE", ValueKind::kDevice)},
       {},
       "disconnect who uses it",
       "Throws away what was written to the device, at once. A device that was shrunk is as large "
       "as its image again.",
       {{"cowl reset web", "as it was made"}},
       RunReset},
      {"resize",
       "change the size of a device",
       {Required("DEVICE", ValueKind::kDevice), Required("SIZE", ValueKind::kSize)},
       {},
       "shrink, losing what lies beyond",
       "Grows a device, or shrinks it with --force. An attached kernel device takes over the new "
       "size.",
       {{"cowl resize web 40G", "40 GiB"}},
       RunResize},
      {"rename",
       "rename a device or image",
       {Required("OLD", ValueKind::kName), Required("NEW", ValueKind::kName)},
       {},
       kForceTag,
       "Gives a device or an image another name.",
       {{"cowl rename web web-old", "a device"}, {"cowl rename web:v1 shop:v1", "an image"}},
       RunRename},
      {"rm",
       "remove a device",
       {Required("DEVICE", ValueKind::kDevice)},
       {},
       "detach or disconnect who uses it, and remove it",
       "Removes a device and gives its space back.",
       {{"cowl rm web", "removes it"}},
       RunRm},
  };
}

std::vector<Verb> BlockVerbs() {
  return {
      {"diff",
       "list where two disks may differ",
       {Required("A", ValueKind::kName), Optional("B", ValueKind::kName)},
       {{"--files", kNoValue,
         "which files those blocks belong to, and what overlay2 would have copied up"}},
       nullptr,
       "The ranges in which A may read differently from B, by their maps: a rewrite with equal "
       "bytes may show, a real change never "
       "misses. B is by default a device's image, and for an image its chain without the top "
       "layer.\n\n"
       "With --files both are read as ext4, not mounted; a journal that was not emptied is taken "
       "into account. Of a device in use it shows what has reached the device: sync first. A path "
       "is added, modified (its content, owner, mode, time or attributes; also where its blocks "
       "were just rewritten) or deleted. OVERLAY2 is what overlayfs would have copied up: a "
       "changed, renamed or linked file's former size. Bytes of names that are not printable "
       "UTF-8 show as \\xNN.",
       {{"cowl diff web", "what web changed"},
        {"cowl diff web:v2 web:v1 --json", "between two images"},
        {"cowl diff web --files", "the files that web changed"}},
       RunDiff},
      {"map",
       "show where every extent of a disk comes from",
       {Required("NAME", ValueKind::kName)},
       {},
       nullptr,
       "Depth 1 is the top (the overlay, or an image's top layer), 2 the one below, and so on; 0 "
       "are blocks that nobody has and "
       "that read as zero.",
       {{"cowl map web", "the whole disk"}},
       RunMap},
      {"df",
       "show space",
       {},
       {},
       nullptr,
       "What images and devices would hold (logical), the blocks they brought (stored), the disk "
       "space of their files, and what gc "
       "would free. What is shared is counted once in the totals.",
       {{"cowl df", "a table"}},
       RunDf},
      {"tree",
       "show who builds on whom",
       {},
       {},
       nullptr,
       "Layers, and the images and devices on them.",
       {{"cowl tree", "a tree"}},
       RunTree},
      {"gc",
       "free what nothing refers to",
       {},
       {},
       nullptr,
       "Frees what crashes left. Space comes back without it: after a clean run it frees nothing.",
       {{"cowl gc", "says what it freed"}},
       RunGc},
      {"check",
       "check the structure of the store",
       {Optional("NAME", ValueKind::kName)},
       {{"--data", kNoValue, "read every block and compare it with its checksum"},
        {"--repair", kNoValue, "free what leaks; what is damaged is left as it is"}},
       nullptr,
       "Checks everything, or one image or device. Exit status: 0 clean, 2 corrupt, 3 space leaked "
       "but nothing lost, 1 could not "
       "check.",
       {{"cowl check", "structure only: quick"}, {"cowl check --data web", "every block of web"}},
       RunCheck},
      {"dump",
       "show any file of a store as text",
       {Required("FILE", ValueKind::kPath)},
       {},
       nullptr,
       "Layers, overlays and the catalog, damaged ones too. Needs no store.",
       {{"cowl dump /var/lib/cowl/layers/*.cowl | less", "what is in a file"}},
       RunDump},
  };
}

std::vector<Verb> ServeVerbs() {
  const Value count = Required("N", ValueKind::kCount);
  const Value dir = Required("DIR", ValueKind::kPath);
  const Option mount{"--mount", dir, "mount it on this empty directory"};
  return {
      {"serve",
       "serve every image and device over NBD",
       {},
       {{"--listen", Required("ADDRESS", ValueKind::kListen),
         "unix:PATH or tcp:HOST:PORT; may be repeated", true},
        {"--default", Required("NAME", ValueKind::kName),
         "what the empty export name means; else it is refused"},
        {"--stdio", Required("NAME", ValueKind::kName),
         "serve one client on stdin and stdout, and end with it"},
        {"--detach", kNoValue, "go to the background once it can be connected to"},
        {"--threads", count, "threads that serve devices; default: one a processor, at most 8"},
        {"--io",
         {"KIND", ValueKind::kChoice, true, "uring|sync", ""},
         "uring, or sync where the host forbids io_uring"},
        {"--max-connections", count, "clients at once; default 1000"},
        {"--handshake-timeout", Required("SECONDS", ValueKind::kCount),
         "for a client's handshake; default 10"},
        {"--max-inflight", count, "requests of a client at once; default 128"},
        {"--max-inflight-bytes", Required("N", ValueKind::kSize),
         "bytes of a client's requests at once; default 64M"},
        {"--tls", dir, "certificates", false, false, true},
        {"--until-detached", kNoValue, "end when nothing is attached and nobody holds it", false,
         true}},
       nullptr,
       "Serves until it is told to stop: images read-only as NAME:TAG, devices as NAME. Without "
       "--listen it listens on nbd.sock in "
       "the store. Prints one URI for each listener once it can be connected to. TCP only on "
       "loopback addresses. SIGTERM lets "
       "clients finish for ten seconds at most. Takes sockets from systemd and reports readiness "
       "to it.\n\n"
       "While it runs, all other commands are run by the server; nothing else changes for them.",
       {{"cowl serve", "in the foreground, on a unix socket in the store"},
        {"cowl serve --detach --listen tcp:127.0.0.1:10809", "in the background, on TCP"},
        {"nbdinfo \"nbd+unix:///web?socket=/var/lib/cowl/nbd.sock\"",
         "a client's view of device web"}},
       RunServe,
       CheckServe},
      {"stop",
       "end the server",
       {},
       {},
       nullptr,
       "Lets clients finish, ten seconds at most, and returns when the server is gone. What is "
       "attached stays attached and waits for the next server.",
       {{"cowl stop", "ends it"}},
       RunStop},
      {"attach",
       "make an image or device a block device of this host",
       {Required("NAME", ValueKind::kName)},
       {mount, {"--read-only", kNoValue, "refuse writes; images are read-only in any case"}},
       nullptr,
       "Prints the device's path: /dev/nbdN, or a loop device where the kernel has no nbd. Without "
       "a server one is started in the "
       "background and ends after the last detach. Needs root.",
       {{"cowl attach web --mount /mnt/web", "attached and mounted"},
        {"cowl attach debian:12", "an image, read-only"}},
       RunAttach},
      {"detach",
       "unmount and disconnect what attach made",
       {Required("NAME", ValueKind::kName)},
       {},
       "cut it off also while it is in use, or its server is gone: its users get I/O errors",
       "Undoes cowl attach. Never touches a device that cowl did not attach. When the server is "
       "gone, one is started to take what was not written yet.",
       {{"cowl detach web", "unmounts and disconnects"}},
       RunDetach},
      {"run",
       "serve an image or device just for one command",
       {Required("NAME", ValueKind::kName)},
       {mount},
       nullptr,
       "Runs COMMAND with $uri in its environment, and with --mount also $device and $mount. Uses "
       "a running server. Exits with "
       "COMMAND's status; 125: cowl failed, 126: COMMAND cannot be run, 127: there is no such "
       "COMMAND, 128+N: signal N ended it. "
       "Leaves nothing behind.",
       {{"cowl run web -- sh -c 'nbdinfo \"$uri\"'", "a client for the time of one command"},
        {"cowl run web --mount /mnt -- chroot /mnt apt-get update", "inside the mounted disk"}},
       RunRun,
       nullptr,
       true},
  };
}

std::vector<Verb> OtherVerbs() {
  return {
      {"doctor",
       "look at what this host can do and what crashes left",
       {},
       {{"--fix", kNoValue, "clean up what crashes left"}},
       nullptr,
       "Looks at io_uring, the nbd module, fuse and loop devices, and at what crashed servers and "
       "attachments left.",
       {{"cowl doctor", "a list"}, {"cowl doctor --fix", "cleans up"}},
       RunDoctor},
      {"help",
       "show help",
       {Optional("VERB", ValueKind::kText), Optional("SUBVERB", ValueKind::kText)},
       {{"--man", kNoValue, "as a manual page"},
        {"--completion", {"SHELL", ValueKind::kChoice, true, "bash", ""}, "a completion script"},
        {"--man-pages", Required("DIR", ValueKind::kPath), "write all manual pages there", false,
         true}},
       nullptr,
       "Help on cowl, or on one verb.",
       {{"cowl help create", "what create does"},
        {"cowl help attach --man | man -l -", "as a manual page"},
        {"cowl help --completion bash > /etc/bash_completion.d/cowl", "completion"}},
       RunHelp,
       CheckHelp},
      {"version",
       "show the version",
       {},
       {},
       nullptr,
       "The version of this program.",
       {{"cowl version", ""}},
       RunVersion},
      {"stats",
       "requests, latencies, cache hits",
       {Optional("NAME", ValueKind::kName)},
       {},
       nullptr,
       "",
       {},
       nullptr},
      {"top", "the busiest devices", {}, {}, nullptr, "", {}, nullptr},
  };
}

std::vector<Verb> AllVerbs() {
  std::vector<Verb> all;
  for (auto group : {ContentVerbs, DeviceVerbs, BlockVerbs, ServeVerbs, OtherVerbs}) {
    for (Verb& verb : group()) all.push_back(std::move(verb));
  }
  return all;
}

}  // namespace

const std::vector<Verb>& Verbs() {
  static const auto* verbs = new std::vector<Verb>(AllVerbs());
  return *verbs;
}

const Verb* FindVerb(const std::string& name) {
  for (const Verb& verb : Verbs()) {
    if (name == verb.name) return &verb;
  }
  return nullptr;
}

const std::vector<Option>& GlobalOptions() {
  static const auto* options = new std::vector<Option>{
      {"--store", Required("DIR", ValueKind::kPath),
       "the store; else $COWL_STORE, else /var/lib/cowl for root and ~/.local/share/cowl for "
       "others"},
      {"--json", kNoValue, "one JSON document on standard output"},
      {"-q,--quiet", kNoValue, "no progress and notes; of lists only the names"},
      {"-h,--help", kNoValue, "help on the verb"},
      {"--version", kNoValue, "the version of this program"},
  };
  return *options;
}

}  // namespace cowl
