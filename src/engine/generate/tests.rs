//! Writing text from within: where tokens are chosen, and what becomes of an answer.

mod choice;
mod parts;
