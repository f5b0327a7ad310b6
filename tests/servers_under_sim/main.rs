//! The servers of `examples/`, unchanged, on bad networks and bad machines: what comes back is
//! compared with what should come back, to the byte.

// What only their `main` uses is not used here.
#[allow(dead_code)]
#[path = "../../examples/echo.rs"]
mod echo;
#[allow(dead_code)]
#[path = "../../examples/hub.rs"]
mod hub;
#[allow(dead_code)]
#[path = "../../examples/kv/main.rs"]
mod kv;
#[allow(dead_code)]
#[path = "../../examples/proxy.rs"]
mod proxy;
#[allow(dead_code)]
#[path = "../../examples/timers.rs"]
mod timers;

#[path = "../support/errno.rs"]
mod errno;

mod circumstances;
mod echo_under_sim;
mod hub_under_sim;
mod kv_clients;
mod kv_model;
mod kv_under_sim;
mod proxy_under_sim;
mod timers_under_sim;
