-- +goose Up
create table lease (
    org     text   not null,
    name    text   not null primary key,
    holder  text   not null,
    epoch   bigint not null,
    expires bigint not null -- unix microseconds
);
