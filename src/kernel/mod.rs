// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Parsers of kernel text; each is given the text, none opens a file.

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
