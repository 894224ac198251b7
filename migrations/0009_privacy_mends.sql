-- Privacy, what a second look asked for. Works with the binary before it, which leaves the new
-- columns as they are.

-- A rotation made it under that key outside, and not everything hangs on it yet. Null: nothing is
-- left to be done.
alter table root_keys add column rotation_to text;

-- The record that its store keeps names an account that was erased, and somebody else owns it: a name
-- in it that is nobody's here is not kept again.
alter table purchase_chains add column names_erased boolean not null default false;

-- An erasure, an export and a replay ask for what came to an account, too.
create index ownership_changes_to on ownership_changes (to_account_id);
