# The engine as one static library for programs that embed it: libcowl.a, include/cowl, a CMake package and a pkg-config file.
include(CMakePackageConfigHelpers)
include(GNUInstallDirs)

set(COWL_PUBLIC_MODULES base io format layer overlay device catalog store)
add_library(cowl_embed STATIC)
foreach(module ${COWL_PUBLIC_MODULES})
  target_sources(cowl_embed PRIVATE $<TARGET_OBJECTS:cowl_${module}>)
endforeach()
set_target_properties(cowl_embed PROPERTIES OUTPUT_NAME cowl LINKER_LANGUAGE CXX)
install(FILES $<TARGET_FILE:cowl_embed> DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY "${CMAKE_SOURCE_DIR}/include/cowl" DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h")

configure_package_config_file("${CMAKE_CURRENT_LIST_DIR}/cowlConfig.cmake.in" "${CMAKE_BINARY_DIR}/cowlConfig.cmake"
                              INSTALL_DESTINATION "${CMAKE_INSTALL_LIBDIR}/cmake/cowl"
                              PATH_VARS CMAKE_INSTALL_INCLUDEDIR CMAKE_INSTALL_LIBDIR)
write_basic_package_version_file("${CMAKE_BINARY_DIR}/cowlConfigVersion.cmake" COMPATIBILITY SameMinorVersion)
install(FILES "${CMAKE_BINARY_DIR}/cowlConfig.cmake" "${CMAKE_BINARY_DIR}/cowlConfigVersion.cmake"
        DESTINATION "${CMAKE_INSTALL_LIBDIR}/cmake/cowl")

# Relative, so that an installation can be moved.
file(RELATIVE_PATH COWL_PC_TO_PREFIX "/${CMAKE_INSTALL_LIBDIR}/pkgconfig" "/")
configure_file("${CMAKE_CURRENT_LIST_DIR}/cowl.pc.in" "${CMAKE_BINARY_DIR}/cowl.pc" @ONLY)
install(FILES "${CMAKE_BINARY_DIR}/cowl.pc" DESTINATION "${CMAKE_INSTALL_LIBDIR}/pkgconfig")
