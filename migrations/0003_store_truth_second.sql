-- Store truth, what the first look at it in use asked for. Works with the binary before it.

-- Money -------------------------------------------------------------------------------------------

-- Pages are read by it.
create unique index transactions_row on transactions (id);

-- Accounts ----------------------------------------------------------------------------------------

-- The issuer says that nobody has signed in: whoever reinstalls comes as somebody else.
alter table account_identities add column anonymous boolean not null default false;
