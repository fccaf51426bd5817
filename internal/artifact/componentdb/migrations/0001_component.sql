-- +goose Up
create table component (
    org         text   not null,
    artifact_id text   not null,
    kind        text   not null,
    name        text   not null,
    version     text   not null,
    folded      text   not null, -- name in lower case, to be searched
    purl        text   not null,
    service_id  text   not null,
    service     text   not null,
    tag         text   not null,
    digest      text   not null,
    at          bigint not null, -- when the artifact was admitted
    primary key (artifact_id, kind, name, version)
);
create index component_name on component (folded, version);
