//! What people keep of their conversations: named chats.
#![forbid(unsafe_code)]

pub mod named;
