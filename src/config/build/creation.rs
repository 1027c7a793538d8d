//! Users that are made at their first login (`users: create` of the login provider).

use super::issuer::unusable_claim;
use super::{Builder, Place};
use crate::client::made::{Creation, MAX_USERS};
use crate::config::raw::gateway::{RawProvider, RawProviderUsers};
use crate::config::raw::issuer::RawClaimNames;
use crate::names::RoleName;

/// How a claim can be named.
const CLAIM_NAMES: &str = "a name, names with dots between (`realm_access.roles`), or a JSON \
    Pointer (`/resource_access/my.client/roles`)";

impl Builder<'_> {
    /// How users are made; none where only listed ones sign in.
    pub(super) fn creation(&mut self, raw: &RawProvider, place: &Place<'_>) -> Option<Creation> {
        let names = raw.roles_claim.as_ref().map(RawClaimNames::names).unwrap_or_default();
        self.check_roles_of_groups(raw, place);
        if raw.users == RawProviderUsers::Listed {
            self.check_listed(raw, place);
            return None;
        }
        if names.is_empty() && raw.require.is_empty() {
            let help = "write `roles_claim: groups` and `roles: { grp-orders: orders_admin }`, or \
                `require: { claim: [value] }`";
            let message = "`users: create` with neither `roles_claim` nor `require`: everybody at \
                the provider would be a user, and all alike";
            self.fault(&place.key("users"), message, help);
        }
        for name in names {
            if let Some(message) = unusable_claim(name) {
                let message = format!("`{name}`: {message}");
                self.fault(&place.key("roles_claim"), message, CLAIM_NAMES);
            }
        }
        for (name, values) in &raw.require {
            let place = place.key("require").key(name);
            if let Some(message) = unusable_claim(name) {
                self.fault_at_key(&place, format!("`{name}`: {message}"), CLAIM_NAMES);
            }
            if values.is_empty() {
                let help = "write the values of which one is enough";
                self.fault(&place, "an empty list: nobody could be made", help);
            }
        }
        Some(Creation {
            roles_claim: names.to_vec(),
            roles: raw
                .roles
                .iter()
                .map(|(group, role)| (group.clone(), RoleName::new(role)))
                .collect(),
            require: raw
                .require
                .iter()
                .map(|(name, values)| (name.clone(), values.clone()))
                .collect(),
            max_users: raw.max_users.unwrap_or(MAX_USERS),
        })
    }

    /// A claim without roles, and roles without a claim, give nobody anything.
    fn check_roles_of_groups(&mut self, raw: &RawProvider, place: &Place<'_>) {
        if raw.users == RawProviderUsers::Listed {
            return;
        }
        if raw.roles_claim.is_some() && raw.roles.is_empty() {
            let help = "write `roles: { grp-orders: orders_admin }`: a group that is not there \
                gives nothing";
            self.fault(&place.key("roles_claim"), "`roles_claim` without `roles`", help);
        }
        if raw.roles_claim.is_none() && !raw.roles.is_empty() {
            let help = "write `roles_claim: groups`, the claim that has these values";
            self.fault_at_key(&place.key("roles"), "`roles` without `roles_claim`", help);
        }
    }

    /// Roles of listed users are in users.yaml alone: what would be ignored is a fault.
    fn check_listed(&mut self, raw: &RawProvider, place: &Place<'_>) {
        let keys = [
            ("roles_claim", raw.roles_claim.is_some()),
            ("roles", !raw.roles.is_empty()),
            ("require", !raw.require.is_empty()),
            ("max_users", raw.max_users.is_some()),
        ];
        for (key, _) in keys.iter().filter(|(_, is_there)| *is_there) {
            let message = format!("`{key}` without `users: create`");
            let help = "listed users have the roles of users.yaml; write `users: create` for users \
                that are made at login, or take the key away";
            self.fault_at_key(&place.key(key), message, help);
        }
    }
}
