//! A simulated network for testing handlers: the unchanged handler on the unchanged loop, over
//! simulated kernels, in virtual time, with faults at any byte, from one seed.

mod links;
mod node;
mod peers;
mod seeds;
mod world;

pub use crate::backend::sim::{
    Dialect, Fault, Faults, Link, NodeOptions, PeerState, Progress, Report, Script,
};
pub use node::{Host, Node};
pub use peers::Peer;
pub use seeds::for_seeds;
pub use world::World;
