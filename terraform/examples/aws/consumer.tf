# A function that asks for a token: the layer, a configuration, and the role of readers. Copy it for your own functions.

resource "aws_iam_role_policy_attachment" "orders_log" {
  role       = basename(module.nightporter.role_arns["read-only"])
  policy_arn = "arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole"
}

resource "aws_lambda_function" "orders" {
  #checkov:skip=CKV_AWS_115:an example; a limit is the account's own choice
  #checkov:skip=CKV_AWS_116:it is called by a person or a gateway, and they get the error themselves
  #checkov:skip=CKV_AWS_117:the vendor is on the internet; no network of the account is needed
  #checkov:skip=CKV_AWS_173:the configuration holds no secret, so the key of the account is enough
  #checkov:skip=CKV_AWS_272:the zip is built reproducibly and compared by hash
  #checkov:skip=CKV_AWS_50:tracing would need rights that a reader does not have
  function_name    = "orders"
  description      = "Asks the vendor for orders, with a token that nightporter publishes"
  role             = module.nightporter.role_arns["read-only"]
  runtime          = "python3.13"
  architectures    = ["arm64"]
  handler          = "orders.handler"
  filename         = "${path.module}/../../../dist/nightporter-example-orders.zip"
  source_code_hash = filebase64sha256("${path.module}/orders.py")
  layers           = [module.nightporter.layer_arn]
  timeout          = 30
  memory_size      = 256

  environment {
    variables = { NIGHTPORTER_CONFIG_TOML = file("${path.module}/consumer.toml") }
  }

  depends_on = [aws_iam_role_policy_attachment.orders_log]
}

output "consumer" {
  description = "The function to invoke once the scheduled job has published a token."
  value       = aws_lambda_function.orders.function_name
}
