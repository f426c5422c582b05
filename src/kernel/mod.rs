// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Parsers of what the kernel writes to files such as those in /proc. They are given the content and open no file.

pub mod cgroup;
pub mod fs_type;
pub mod id_map;
pub mod memory;
pub mod mountinfo;
pub mod selinux;
pub mod stat;
pub mod status;
pub mod statx;
pub mod time_offsets;
