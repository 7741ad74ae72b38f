//! Managed fields: the API server's record of the clients that wrote the fields of an object.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;

use paddock_api::names::FIELD_MANAGER;

/// Whether there is at least one entry, and every entry is an update by the operator.
pub(super) fn only_our_manager(managed_fields: &[ManagedFieldsEntry]) -> bool {
    // The operator never uses server-side apply. An apply under its name comes from another client.
    let ours = |entry: &ManagedFieldsEntry| {
        entry.manager.as_deref() == Some(FIELD_MANAGER) && entry.operation.as_deref() == Some("Update")
    };
    !managed_fields.is_empty() && managed_fields.iter().all(ours)
}

#[cfg(test)]
mod tests {
    use paddock_api::kind::Kind;
    use serde_json::{Value, json};

    use crate::object::Object;

    #[test]
    fn a_record_of_updates_by_the_operator_alone_is_ours() {
        let only_our_manager = |managed_fields: Value| {
            let metadata = json!({ "name": "s", "managedFields": managed_fields });
            Object::from_json(Kind::Sandbox, json!({ "metadata": metadata })).unwrap().meta.only_our_manager
        };
        let (created, status) = (
            json!({ "manager": "paddock", "operation": "Update" }),
            json!({ "manager": "paddock", "operation": "Update", "subresource": "status" }),
        );
        assert!(only_our_manager(json!([created, status])));
        for other in [
            json!({ "manager": "kubectl-edit", "operation": "Update" }),
            json!({ "manager": "paddock", "operation": "Apply" }),
            json!({ "operation": "Update" }),
        ] {
            assert!(!only_our_manager(json!([created, other])), "{other}");
        }
        assert!(!only_our_manager(json!([])), "there is nothing to end");
        assert!(!only_our_manager(Value::Null));
    }
}
