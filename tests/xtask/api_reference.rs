//! The reference of the API, made from the definitions in `crds/`.
