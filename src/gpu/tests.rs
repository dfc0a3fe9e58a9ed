//! The back-end as a whole: its kernels for every driver, its steps and models against the CPU, and its behaviour when
//! the device fails. Without a device everything that needs one is skipped; `TEALIGHT_REQUIRE_GPU` forbids that.

mod cases;
mod counts;
mod experts;
mod faults;
mod fixtures;
mod kernels;
mod latents;
mod models;
mod positions;
mod real;
mod states;
mod steps;
mod support;
