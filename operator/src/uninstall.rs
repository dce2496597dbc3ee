//! `uninstall`: deletes the webhook configurations before the operator goes (helm's pre-delete
//! hook), or the API server would refuse pods for want of somebody who answers.

use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration,
};
use k8s_openapi::serde::de::DeserializeOwned;
use kube::api::DeleteParams;
use kube::{Api, Client, Resource};

/// Deletes both; that they are gone already is fine.
///
/// # Errors
/// The API server's.
pub async fn uninstall(client: &Client, name: &str) -> Result<(), kube::Error> {
    delete::<MutatingWebhookConfiguration>(client, name).await?;
    delete::<ValidatingWebhookConfiguration>(client, name).await
}

async fn delete<K>(client: &Client, name: &str) -> Result<(), kube::Error>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned,
{
    let api: Api<K> = Api::all(client.clone());
    match api.delete(name, &DeleteParams::default()).await {
        Ok(_) => tracing::info!(kind = %K::kind(&()), name, "deleted"),
        Err(kube::Error::Api(status)) if status.code == 404 => {
            tracing::info!(kind = %K::kind(&()), name, "was gone already");
        }
        Err(error) => return Err(error),
    }
    Ok(())
}
