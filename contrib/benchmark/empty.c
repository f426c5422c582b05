// SPDX-License-Identifier: Apache-2.0 OR MIT
// Does nothing: what starting a process costs at least.

int main(void) { return 0; }
