-- +goose Up
create table org (
    org  text   not null primary key,
    name text   not null unique,
    at   bigint not null
);
create table repository (
    org  text   not null,
    id   text   not null primary key,
    name text   not null,
    at   bigint not null,
    unique (org, name)
);
create table service (
    org           text   not null,
    id            text   not null primary key,
    repository_id text   not null references repository (id),
    name          text   not null,
    at            bigint not null,
    unique (org, name)
);
