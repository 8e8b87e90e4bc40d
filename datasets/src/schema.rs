//! The layout of a shard.
