#include "image/export.h"

#include "base/status.h"
#include "image/frozen_source.h"
#include "image/output_file.h"
#include "image/qcow2.h"
#include "image/raw_output.h"

namespace cowl {

absl::Status Export(const ExportOptions& options) {
  const bool to_stdout = options.path == "-";
  if (to_stdout && options.format != ExportFormat::kRaw) {
    return InvalidArgument(
        "only a raw disk can be written to standard output; name a file for qcow2");
  }
  if (to_stdout) {
    COWL_ASSIGN_OR_RETURN(const std::unique_ptr<BlockSource> source, OpenFrozenView(options.view));
    return WriteRawStream(*source, options.stdout_fd, "standard output", options.progress);
  }
  // The file first: whether it may be written is known at once.
  COWL_ASSIGN_OR_RETURN(const std::unique_ptr<OutputFile> file,
                        OutputFile::Create(options.path, options.force));
  COWL_ASSIGN_OR_RETURN(const std::unique_ptr<BlockSource> source, OpenFrozenView(options.view));
  const auto write = options.format == ExportFormat::kQcow2 ? WriteQcow2File : WriteRawFile;
  COWL_RETURN_IF_ERROR(write(*source, file->fd(), options.path, options.progress));
  return file->Commit();
}

}  // namespace cowl
