\set id random(1, :rows)
SELECT id, name, price, in_stock, owner_id, version, created_at, updated_at FROM items WHERE id = :id;
