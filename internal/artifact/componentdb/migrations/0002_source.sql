-- +goose Up
alter table component add column source text not null default ''; -- what advisories call it, in lower case, if that is not its name
create index component_source on component (source, version);
