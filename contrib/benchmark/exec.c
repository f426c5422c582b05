// SPDX-License-Identifier: Apache-2.0 OR MIT
// Executes another program: the minimum cost of any wrapper.

#include <unistd.h>

int main(int argc, char **argv) { return argc < 2 || execv(argv[1], argv + 1); }
