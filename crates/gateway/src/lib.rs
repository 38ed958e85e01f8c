//! The HTTP edge: verify, authorise, decode, call control, map errors.
//!
//! [`edge`] does what all requests have in common; [`handlers`] holds the table from operations to functions of about ten
//! lines; [`views`] writes records as wire types; [`faults`] maps domain faults to codes. No SQL, no machines, no decisions
//! about clusters. Start reading at [`edge::Gateway`] and [`handlers::routes`].

pub mod call;
pub mod edge;
pub mod faults;
pub mod handlers;
pub mod views;
