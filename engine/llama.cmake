# Read by CMake at the beginning of llama.cpp (.cargo/config.toml). Its helpers for programs of its own (command lines, chat templates,
# downloads), which llama-cpp-sys-2 always asks for, are not used here: half of what would be compiled.
set(LLAMA_BUILD_COMMON OFF CACHE BOOL "" FORCE)
