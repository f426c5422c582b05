// SPDX-License-Identifier: Apache-2.0 OR MIT
// Does nothing: the minimum cost of starting a process.

int main(void) { return 0; }
