//! Where a container goes: filters, then a strategy. Pure.
