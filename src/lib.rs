// SPDX-License-Identifier: Apache-2.0 OR MIT
//! An OCI hook that makes systemd run as the first process of an unprivileged container.
//!
//! Data flows one way: [`gather`] reads facts, [`decide`] and [`prepare`] make a [`plan`] of them
//! without touching anything, [`apply`] carries it out without seeing a fact. A file uses only
//! files above it in this list. [`hooksd`] stands apart: it is how engines choose hooks, and how [`runtime`] does, which
//! is another program than the hook.

pub mod one_line;
pub mod path;

pub mod kernel;
pub mod oci;
pub mod sys;

pub mod os_release;
pub mod systemd;

pub mod command;
pub mod facts;
pub mod identity;
pub mod interface;
pub mod root;

pub mod decide;
pub mod plan;
pub mod prepare;

pub mod apply;
pub mod gather;
pub mod record;

pub mod cli;
pub mod hook;
pub mod report;

pub mod hooksd;
pub mod runtime;
