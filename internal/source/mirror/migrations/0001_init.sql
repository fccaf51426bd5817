-- +goose Up
create table source_mirror (
    org     text   not null,
    name    text   not null, -- owner/name, lower case
    url     text   not null, -- without credentials
    digest  text   not null, -- of the bundle in the blob store
    size    bigint not null,
    refs    text   not null, -- JSON: ref to commit
    fetched bigint not null,
    by_name text   not null,
    primary key (org, name)
);
