# cowl_module(NAME [DEPS module...] [LIBS library...] [PRECOMPILED target]): one folder of engine/ as one library target cowl_NAME.
#
# Every .cc of the folder belongs to it. Its headers are reached as "NAME/file.h" through an include root of its own
# (a folder in the build tree that holds one link), which travels only along DEPS: a folder that does not declare
# another cannot include it, so an include that points upward does not build.
function(cowl_module name)
  cmake_parse_arguments(ARG "" "PRECOMPILED" "DEPS;LIBS" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS "${CMAKE_CURRENT_SOURCE_DIR}/*.cc")
  file(GLOB headers CONFIGURE_DEPENDS "${CMAKE_CURRENT_SOURCE_DIR}/*.h")
  set(root "${CMAKE_BINARY_DIR}/roots/${name}")
  file(MAKE_DIRECTORY "${root}")
  file(CREATE_LINK "${CMAKE_CURRENT_SOURCE_DIR}" "${root}/${name}" SYMBOLIC)
  list(TRANSFORM ARG_DEPS PREPEND cowl_)
  if(sources)
    add_library(cowl_${name} STATIC ${sources} ${headers})
    set(scope PUBLIC)
    target_link_libraries(cowl_${name} PRIVATE cowl_options)
    if(NOT ARG_PRECOMPILED)
      set(ARG_PRECOMPILED cowl_pch)
    endif()
    cowl_reuse_headers(cowl_${name} ${ARG_PRECOMPILED})
  else()
    add_library(cowl_${name} INTERFACE)
    set(scope INTERFACE)
  endif()
  target_include_directories(cowl_${name} ${scope} $<BUILD_INTERFACE:${root}>)
  target_link_libraries(cowl_${name} ${scope} ${ARG_DEPS} ${ARG_LIBS})
endfunction()

# cowl_options: the warnings (errors, all of them) and sanitizers that our own code is built with.
add_library(cowl_options INTERFACE)
target_compile_options(cowl_options INTERFACE -Wall -Wextra -Werror -Wnon-virtual-dtor -Woverloaded-virtual
                       -Wunused-result -fno-omit-frame-pointer)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # gcc 12 warns of values that coroutine frames and inlined variants do initialise.
  target_compile_options(cowl_options INTERFACE -Wno-maybe-uninitialized -Wno-subobject-linkage -fcoroutines)
  # Of inlined std::string it claims overflows that cannot be; with precompiled headers it no longer knows them for the system's.
  target_compile_options(cowl_options INTERFACE -Wno-array-bounds -Wno-stringop-overflow -Wno-stringop-overread -Wno-restrict)
endif()
if(COWL_SANITIZE)
  add_compile_options(-fsanitize=${COWL_SANITIZE} -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${COWL_SANITIZE})
endif()

# cowl_precompile(NAME DEPS target... HEADERS header...): headers of libraries, never our own, compiled once; targets that are
# compiled with the same options take them by cowl_reuse_headers. The clang preset goes without, so that a missing include shows.
function(cowl_precompile name)
  cmake_parse_arguments(ARG "" "" "DEPS;HEADERS" ${ARGN})
  if(NOT COWL_PCH)
    return()
  endif()
  file(WRITE "${CMAKE_BINARY_DIR}/${name}.cc" "// What CMake needs to precompile headers.\n")
  add_library(${name} OBJECT "${CMAKE_BINARY_DIR}/${name}.cc")
  target_link_libraries(${name} PRIVATE cowl_options ${ARG_DEPS})
  target_precompile_headers(${name} PRIVATE ${ARG_HEADERS})
endfunction()

function(cowl_reuse_headers target name)
  if(COWL_PCH)
    target_precompile_headers(${target} REUSE_FROM ${name})
  endif()
endfunction()

set(COWL_COMMON_HEADERS <algorithm> <chrono> <coroutine> <cstdint> <cstring> <filesystem> <functional> <map> <memory> <mutex>
    <optional> <span> <string> <string_view> <thread> <utility> <variant> <vector>
    <absl/status/status.h> <absl/status/statusor.h> <absl/strings/str_cat.h>)
