// SPDX-License-Identifier: Apache-2.0 OR MIT
// Becomes another program: what any wrapper costs at least.

#include <unistd.h>

int main(int argc, char **argv) { return argc < 2 || execv(argv[1], argv + 1); }
